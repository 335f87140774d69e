"""Where the cluster is: a kubeconfig, or the service account of the pod this runs in."""

import os
from pathlib import Path

import urllib3
import yaml
from kubernetes import config
from kubernetes.client import ApiClient, Configuration
from kubernetes.config.kube_config import ENV_KUBECONFIG_PATH_SEPARATOR

from naics_job.errors import ConfigError
from naics_job.kube.account import in_cluster, pod_namespace
from naics_job.kube.api import Cluster, Timing

DAMAGED = (  # what the client raises on files that are no kubeconfig
    config.ConfigException, OSError, ValueError, KeyError, TypeError, yaml.YAMLError,
)  # fmt: skip
HINT = "set KUBECONFIG or write ~/.kube/config, e.g. with your cloud's command for the cluster"


def connect(
    context: str | None = None, namespace: str | None = None, timing: Timing | None = None
) -> Cluster:
    """Find the cluster: `KUBECONFIG`, ~/.kube/config, else the pod's service account.

    The namespace is the one given, else that of the context or of the pod, else `default`.

    Raises:
        ConfigError: there is no cluster, or the kubeconfig cannot be used.
    """
    files = _kubeconfig()
    if files is None and (context or not in_cluster()):
        raise ConfigError("there is no kubeconfig, and this is not a pod of a cluster", HINT)
    if files is None:
        return Cluster(account_client, namespace or pod_namespace(), timing)
    found = _context_namespace(files, context)
    return Cluster(lambda: _config_client(files, context), namespace or found, timing)


def account_client() -> ApiClient:
    """A client with the service account of this pod; its token is read anew.

    Raises:
        ConfigError: token or certificate is missing.
    """
    settings = _settings()
    try:
        config.load_incluster_config(settings, try_refresh_token=False)  # type: ignore[no-untyped-call]
    except (config.ConfigException, OSError) as error:
        hint = "set automountServiceAccountToken and a serviceAccountName for this pod"
        raise ConfigError(f"the service account cannot be used: {error}", hint) from error
    return ApiClient(settings)


def _kubeconfig() -> str | None:
    """The kubeconfig files as the client reads them, None when there is none."""
    text = os.environ.get("KUBECONFIG") or "~/.kube/config"
    paths = [Path(part).expanduser() for part in text.split(ENV_KUBECONFIG_PATH_SEPARATOR) if part]
    if any(path.is_file() for path in paths):
        return text
    if os.environ.get("KUBECONFIG"):
        raise ConfigError(f"KUBECONFIG names no file that exists: {text}", HINT)
    return None


def _config_client(files: str, context: str | None) -> ApiClient:
    settings = _settings()
    try:
        config.load_kube_config(files, context, settings, persist_config=False)  # type: ignore[no-untyped-call]
    except DAMAGED as error:
        raise ConfigError(f"the kubeconfig cannot be used: {_line(error)}", HINT) from error
    return ApiClient(settings)


def _context_namespace(files: str, context: str | None) -> str:
    try:
        contexts, active = config.list_kube_config_contexts(files)  # type: ignore[no-untyped-call]
    except DAMAGED as error:
        raise ConfigError(f"the kubeconfig cannot be read: {_line(error)}", HINT) from error
    known = {each["name"]: each for each in contexts}
    if context is not None and context not in known:
        names = ", ".join(sorted(known)) or "none"
        raise ConfigError(f"--context {context}: no such context", f"the kubeconfig has: {names}")
    chosen = known[context] if context is not None else active
    return str(chosen["context"].get("namespace") or "default")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _settings() -> Configuration:
    settings = Configuration()
    # retries are ours: urllib3's own three, at once and unseen, would only delay them
    settings.retries = urllib3.Retry(0, redirect=3)
    settings.keep_alive = True  # a log may be silent for long, and its connection be dead
    settings.connection_pool_maxsize = 128  # a stream for each rank, and some
    return settings
