"""Where this process runs, as far as its defaults depend on it."""

import os


def in_pod() -> bool:
    """Whether this process runs in a Kubernetes pod, which always knows its API server."""
    return "KUBERNETES_SERVICE_HOST" in os.environ


def default_address() -> str:
    """All addresses of a pod, which has its own; elsewhere only this machine may ask."""
    return "0.0.0.0" if in_pod() else "127.0.0.1"
