"""What a pod of a run is doing, and what keeps it from doing it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from naics_job.errors import TransientError
from naics_job.kube.kinds import dig
from naics_job.kube.paths import Json

TRANSIENT_ABOVE_128 = 128 + TransientError.exit_code  # what the launcher makes of 75 where
KILLED = 137  # codes below 128 are final for the operator
INDEX_KEYS = (  # labels, then annotations, that number the pods of a run
    "training.kubeflow.org/replica-index",
    "batch.kubernetes.io/job-completion-index",
)
JOB_INDEX = "jobset.sigs.k8s.io/job-index"

IMAGE = (
    "check the name and tag of the image, that the registry holds it for the nodes' architecture, "
    "and imagePullSecrets"
)
FIXES = {
    "ErrImagePull": IMAGE,
    "ImagePullBackOff": IMAGE,
    "InvalidImageName": "mend the image reference: registry/name:tag or registry/name@sha256:...",
    "ErrImageNeverPull": "load the image onto the node, or set imagePullPolicy to IfNotPresent",
    "CreateContainerConfigError": "create the Secret or ConfigMap that is named, with that key, in "
    "the namespace of the run",
    "CreateContainerError": "see the message: most often a volume or a command that is not there",
    "RunContainerError": "see the message: most often a command that the image does not have",
    "FailedMount": "create the ConfigMap, Secret or claim that is named, in the run's namespace",
    "FailedCreate": "see the message: a quota, Pod Security or an admission rule refuses the pod",
}
UNSCHEDULABLE = (
    "no node has room: check GPU and memory requests, node selectors, taints; an autoscaler may be "
    "adding one"
)


@dataclass(frozen=True)
class Problem:
    """Why a pod does not run, in words.

    Attributes:
        reason: as Kubernetes calls it.
        message: its text.
        fix: what to do.
        lasting: whether waiting alone seldom helps.
    """

    reason: str
    message: str
    fix: str
    lasting: bool


@dataclass(frozen=True, kw_only=True)
class PodView:
    """One pod of a run. Codes are those of the contract, see `contract_code`."""

    rank: int | None
    name: str
    uid: str
    node: str | None
    phase: str
    created: str
    ready: bool = False
    started: bool = False  # the container runs or has run: there may be a log
    restarts: int = 0
    exit_code: int | None = None
    ended: str = ""  # when, as the node says
    last_exit_code: int | None = None  # of the container before the present one
    reason: str = ""  # OOMKilled, Error, Evicted, ...
    outcome: Mapping[str, Any] = field(default_factory=dict)  # the termination message
    problem: Problem | None = None


def contract_code(terminated: Json) -> int:
    """The exit code of a terminated container in terms of our contract."""
    code = int(terminated.get("exitCode", 0))
    if terminated.get("reason") == "OOMKilled":
        return KILLED
    return TransientError.exit_code if code == TRANSIENT_ABOVE_128 else code


def view_of(pod: Json, container: str) -> PodView:
    """Read a pod whose training container is called `container`."""
    meta, status = pod["metadata"], pod.get("status", {})
    statuses = status.get("containerStatuses") or []
    mine: Json = next((each for each in statuses if each.get("name") == container), {})
    state: Json = mine.get("state") or {}
    terminated = state.get("terminated")
    last = dig(mine, "lastState", "terminated")
    said = terminated or last or {}
    return PodView(
        rank=rank_of(pod),
        name=meta["name"],
        uid=meta["uid"],
        node=dig(pod, "spec", "nodeName"),
        phase="Terminating" if meta.get("deletionTimestamp") else status.get("phase", "Pending"),
        created=meta.get("creationTimestamp", ""),
        ready=bool(mine.get("ready")),
        started=bool(terminated or last or "running" in state),
        restarts=int(mine.get("restartCount", 0)),
        exit_code=None if terminated is None else contract_code(terminated),
        ended=(terminated or {}).get("finishedAt") or "",
        last_exit_code=None if last is None else contract_code(last),
        reason=said.get("reason") or status.get("reason") or "",
        outcome=outcome_in(said.get("message") or ""),
        problem=_problem(pod, statuses),
    )


def rank_of(pod: Json) -> int | None:
    """The number of the machine that the pod is to the run, from 0."""
    labels = dig(pod, "metadata", "labels") or {}
    annotations = dig(pod, "metadata", "annotations") or {}
    for key in INDEX_KEYS:
        text = str(labels.get(key, annotations.get(key, "")))
        if text.isdecimal():
            first = labels.get("training.kubeflow.org/replica-type") == "worker"
            with_master = "PET_MASTER_ADDR" in _variables(pod)  # its workers count from 1
            return int(text) + (first and with_master)
    text = str(labels.get(JOB_INDEX, ""))
    return int(text) if text.isdecimal() else None


def outcome_in(message: str) -> Mapping[str, Any]:
    """What the launcher wrote as its last words; text of anybody else becomes `error`."""
    if not message.strip():
        return {}
    try:
        told = json.loads(message)
    except ValueError:
        told = None
    return told if isinstance(told, dict) else {"error": message.strip()}


def newest_by_rank(pods: Iterable[PodView]) -> list[PodView]:
    """The newest pod of each rank, in the order of ranks; pods without a rank come last, all."""
    newest: dict[Any, PodView] = {}
    for pod in sorted(pods, key=lambda each: each.created):
        newest[pod.uid if pod.rank is None else pod.rank] = pod
    return sorted(newest.values(), key=lambda each: (each.rank is None, each.rank or 0, each.name))


def _variables(pod: Json) -> set[str]:
    containers = dig(pod, "spec", "containers") or []
    return {each["name"] for container in containers for each in container.get("env") or []}


def _problem(pod: Json, statuses: list[Json]) -> Problem | None:
    for each in [*(dig(pod, "status", "initContainerStatuses") or []), *statuses]:
        waiting = dig(each, "state", "waiting") or {}
        reason = waiting.get("reason", "")
        if reason in FIXES:
            return Problem(reason, waiting.get("message", ""), FIXES[reason], lasting=True)
        if reason == "CrashLoopBackOff":
            fix = "see the log of the container that ended before: naics-embedder job logs"
            return Problem(reason, waiting.get("message", ""), fix, lasting=False)
    for condition in dig(pod, "status", "conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return Problem(
                "Unschedulable", condition.get("message", ""), UNSCHEDULABLE, lasting=False
            )
    return None
