"""The service account of the pod this runs in."""

from pathlib import Path

from naics_job.observability.cluster import in_pod

FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def in_cluster() -> bool:
    """Whether this process has what a pod with a service account token has."""
    return in_pod() and has_token()


def has_token() -> bool:
    """Whether the pod was given a token."""
    return (FOLDER / "token").exists()


def pod_namespace() -> str:
    """The namespace of the pod."""
    file = FOLDER / "namespace"
    return file.read_text(encoding="utf-8").strip() if file.exists() else "default"
