"""Find runs in a namespace: one by its name, all of ours, and what Kubernetes says about one."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from naics_job.kube.api import Cluster
from naics_job.kube.events import PHASE_STARTED
from naics_job.kube.failures import ApiError, NotFoundError
from naics_job.kube.kinds import INSTANCE, KINDS, NAME, RUN, TRAINER, Kind, dig, is_hook
from naics_job.kube.paths import Json, path_of
from naics_job.kube.pods import FIXES, Problem, view_of
from naics_job.kube.state import QUEUED, SUSPENDED, RunState, state_of

PHASE_TEXT = re.compile(r"SADC phase (\d+) .*from step (\d+)")


def find(cluster: Cluster, name: str, kind: Kind | None = None) -> tuple[Kind, Json]:
    """The run called `name`, of whatever kind unless `kind` is given.

    A TrainJob makes a JobSet and a Job of its own, so the outermost kind comes first.

    Raises:
        NotFoundError: there is none.
        ApiError: no kind may be looked at.
    """
    refused: ApiError | None = None
    for each in (kind,) if kind else KINDS.values():
        try:
            return each, cluster.get(each.path(cluster.namespace, name))
        except NotFoundError:
            continue
        except ApiError as error:  # this kind may not be read; the run may be of another
            refused = error
    if refused is not None:
        raise refused
    hint = f"see which there are: naics-embedder job list --namespace {cluster.namespace}"
    what = f"no run {name} in namespace {cluster.namespace}"
    raise NotFoundError(what, hint)


def state(cluster: Cluster, kind: Kind, job: Json) -> RunState:
    """The state of a run now."""
    selector = f"{kind.pod_label}={job['metadata']['name']}"
    pods = cluster.get(path_of("v1", cluster.namespace, "pods"), labelSelector=selector)
    return state_of(kind, job, [view_of(pod, kind.container) for pod in pods.get("items") or []])


def of_release(name: str) -> str:
    """The selector of the runs of a Helm release."""
    return f"{INSTANCE}={name}"


def all_runs(
    cluster: Cluster, selector: str | None = None
) -> tuple[Sequence[tuple[Kind, Json]], Sequence[str]]:
    """Every run of ours in the namespace, newest first, and what could not be looked at.

    Args:
        cluster: with the namespace.
        selector: of labels that the runs must have besides, such as `of_release`.
    """
    labels = f"{NAME}={TRAINER}" + (f",{selector}" if selector else "")
    found: list[tuple[Kind, Json]] = []
    problems = []
    for kind in KINDS.values():
        try:
            listed = cluster.get(kind.path(cluster.namespace), labelSelector=labels)
        except NotFoundError:
            continue  # the cluster does not know this kind
        except ApiError as error:
            problems.append(str(error.args[0]))
            continue
        found += [(kind, job) for job in listed.get("items") or [] if _is_run(job)]
    found.sort(key=lambda each: each[1]["metadata"]["creationTimestamp"], reverse=True)
    return found, problems


def _is_run(job: Json) -> bool:
    """Whether the object is a run itself: no part of one, no hook of the chart."""
    if job["metadata"].get("ownerReferences") or is_hook(job):
        return False
    return bool(dig(job, "metadata", "labels", RUN))


def with_progress(cluster: Cluster, states: Sequence[RunState]) -> list[RunState]:
    """The states with what training told the cluster by events; as they are where it may not."""
    selector = f"reason={PHASE_STARTED}"
    try:
        listed = cluster.get(path_of("v1", cluster.namespace, "events"), fieldSelector=selector)
    except ApiError:
        return list(states)
    told: dict[str, Mapping[str, int]] = {}
    for each in sorted(listed.get("items") or [], key=_time_of):
        match = PHASE_TEXT.search(each.get("message") or "")
        uid = dig(each, "involvedObject", "uid")
        if match is not None and uid is not None:
            told[uid] = {"phase": int(match[1]), "step": int(match[2])}
    return [replace(each, told=told.get(each.job["metadata"]["uid"], {})) for each in states]


def warnings_about(cluster: Cluster, uid: str) -> Iterator[Problem]:
    """What Kubernetes warns of about one object, newest last; none where events may not be read."""
    selector = f"involvedObject.uid={uid},type=Warning"
    path = path_of("v1", cluster.namespace, "events")
    try:
        listed = cluster.get(path, fieldSelector=selector)
    except ApiError:
        return
    items = sorted(listed.get("items") or [], key=_time_of)
    for each in items:
        reason = each.get("reason", "")
        fix = FIXES.get(reason, "")
        yield Problem(reason, each.get("message", ""), fix, lasting=reason in FIXES)


def problems_of(cluster: Cluster, state: RunState) -> Iterator[tuple[str, Problem]]:
    """What keeps a run from running now, by the object it is about."""
    if state.ended:
        return
    for pod in state.pods:
        if pod.problem is not None:
            yield pod.name, pod.problem
    yield from told_by_events(cluster, state)


def told_by_events(cluster: Cluster, state: RunState) -> Iterator[tuple[str, Problem]]:
    """What only events tell: volumes that cannot be mounted, pods that cannot be made."""
    targets = [(pod.name, pod.uid) for pod in state.pods if not pod.started and pod.problem is None]
    if len(state.pods) < state.num_ranks and state.phase not in (SUSPENDED, QUEUED):
        targets.append((state.name, str(state.job["metadata"]["uid"])))
    for name, uid in targets:
        warnings = list(warnings_about(cluster, uid))
        if warnings:
            yield name, warnings[-1]


def _time_of(each: Json) -> str:
    series = dig(each, "series", "lastObservedTime")
    return str(series or each.get("lastTimestamp") or each.get("eventTime") or "")
