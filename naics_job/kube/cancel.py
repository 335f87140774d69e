"""Stop a run so that it saves: its pods get SIGTERM and their grace period, then they are gone."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from naics_job.errors import NaicsJobError, TransientError
from naics_job.kube.api import MERGE, Cluster
from naics_job.kube.failures import NotFoundError
from naics_job.kube.kinds import CANCELLED, RUN, Kind, dig, is_queued
from naics_job.kube.kueue import set_active
from naics_job.kube.paths import Json, path_of
from naics_job.kube.runs import all_runs, state

POLL_S = 1.0


def cancel(
    cluster: Cluster, kind: Kind, job: Json, timeout_s: float, say: Callable[[str], None]
) -> bool:
    """Suspend a run and wait until its pods are gone; returns whether there was anything to stop.

    Raises:
        TransientError: pods are still there when the time is up.
    """
    found = state(cluster, kind, job)
    name = found.name
    if found.ended:
        say(f"{kind.name} {name} has {found.phase.lower()} already")
        return False
    now = datetime.now(UTC).isoformat(timespec="seconds")
    patch = {"metadata": {"annotations": {CANCELLED: now}}}
    queued = is_queued(job)
    if not queued:  # a queue would start again what others suspend: it is told to let go instead
        patch |= kind.suspension(True)
    cluster.send("PATCH", kind.path(cluster.namespace, name), None, patch, MERGE)
    if queued:
        set_active(cluster, job, False)
    say(f"{kind.name} {name} is told to stop: its pods save and end")
    _await_gone(cluster, kind, name, timeout_s)
    say(f"{kind.name} {name} is stopped; it is kept, suspended")
    return True


def delete(cluster: Cluster, kind: Kind, name: str, say: Callable[[str], None]) -> None:
    """Delete a run and, in the background, what it owns."""
    query = {"propagationPolicy": "Background"}
    try:
        cluster.send("DELETE", kind.path(cluster.namespace, name), query)
    except NotFoundError:
        say(f"{kind.name} {name} is gone already")
        return
    say(f"{kind.name} {name} is deleted")


def cancel_all(
    cluster: Cluster, selector: str, keep: str | None, timeout_s: float, say: Callable[[str], None]
) -> list[tuple[Kind, str]]:
    """Cancel the unfinished runs with some labels; returns those that were stopped.

    Args:
        cluster: with the namespace.
        selector: of their labels.
        keep: the run to leave alone: the one that is being installed.
        timeout_s: for the pods of each run to be gone.
        say: is told what is done.

    Raises:
        NaicsJobError: a kind of run cannot be looked at, or a run does not stop.
    """
    runs, problems = all_runs(cluster, selector)
    if problems:
        hint = "grant list and get on every kind of run, so that none is overlooked"
        raise NaicsJobError("; ".join(problems), hint)
    stopped = []
    for kind, job in runs:
        names = {job["metadata"]["name"], dig(job, "metadata", "labels", RUN)}
        if keep not in names and cancel(cluster, kind, job, timeout_s, say):
            stopped.append((kind, job["metadata"]["name"]))
    return stopped


def _await_gone(cluster: Cluster, kind: Kind, name: str, timeout_s: float) -> None:
    selector = f"{kind.pod_label}={name}"
    path = path_of("v1", cluster.namespace, "pods")
    deadline = time.monotonic() + timeout_s
    while True:
        items = cluster.get(path, labelSelector=selector).get("items") or []
        left = [
            pod["metadata"]["name"]
            for pod in items
            if dig(pod, "status", "phase") not in ("Succeeded", "Failed")
        ]
        if not left:
            return
        if time.monotonic() >= deadline:
            raise TransientError(
                f"pods of {name} are still there after {timeout_s:g} s: {', '.join(left)}",
                "they may be saving: look with naics-embedder job status, or wait with --timeout",
            )
        time.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))
