"""The state of a run from its object and its pods, and the exit code it comes down to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from naics_job.errors import UNEXPECTED, TransientError
from naics_job.kube.kinds import CANCELLED, Kind, dig, is_queued
from naics_job.kube.paths import Json
from naics_job.kube.pods import KILLED, PodView, newest_by_rank

DONE = ("Complete", "Completed", "Succeeded")
FAILED = "Failed"
PREEMPTED = 143
# of pods that lost another, the one that says most first
FOLLOWING = (UNEXPECTED, KILLED, TransientError.exit_code, PREEMPTED)

PENDING, QUEUED, SUSPENDED = "Pending", "Queued", "Suspended"
RUNNING, RESTARTING, SUCCEEDED = "Running", "Restarting", "Succeeded"


@dataclass(frozen=True)
class RunState:
    """A run at one moment.

    Attributes:
        job: its object.
        phase: Pending, Queued (a queue holds it), Suspended, Running, Restarting, Succeeded or
            Failed.
        reason: why, as the operator says it in one word.
        message: and in words.
        pods: the newest pod of each rank.
        num_ranks: pods of the run when all are there.
        cancelled: when `job cancel` stopped it, else empty.
        told: SADC phase, and the step at which it began, from the newest event about it.
    """

    kind: Kind
    job: Json
    phase: str
    reason: str
    message: str
    pods: Sequence[PodView]
    num_ranks: int
    cancelled: str
    told: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the run."""
        return str(self.job["metadata"]["name"])

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.phase in (SUCCEEDED, FAILED)

    @property
    def progress(self) -> Mapping[str, Any]:
        """SADC phase and step of the last words of any pod, else as events told of them."""
        told = [pod.outcome for pod in self.pods if "step" in pod.outcome or "phase" in pod.outcome]
        newest: Mapping[str, Any] = max(
            told, key=lambda each: _number(each.get("step")), default=self.told
        )
        return {key: newest[key] for key in ("phase", "step") if key in newest}


def state_of(kind: Kind, job: Json, pods: Iterable[PodView]) -> RunState:
    """Put together what the object and its pods say."""
    newest = newest_by_rank(pods)
    cancelled = str(dig(job, "metadata", "annotations", CANCELLED) or "")
    phase, condition = _phase(kind, job, newest)
    if phase == SUSPENDED and is_queued(job) and not cancelled:
        phase = QUEUED
    reason, message = condition.get("reason") or "", condition.get("message") or ""
    return RunState(kind, job, phase, reason, message, newest, kind.num_ranks(job), cancelled)


def outcome_code(state: RunState, pods: Iterable[PodView] = ()) -> int:
    """The code of the contract that an ended run comes down to.

    A pod that only lost the others ends badly too: its code counts when nobody has a better one.

    Args:
        state: of the run, ended.
        pods: that were seen before and may be gone by now.
    """
    if state.phase == SUCCEEDED:
        return 0
    failed = sorted(
        (pod for pod in newest_by_rank([*pods, *state.pods]) if code_of(pod)),
        key=lambda pod: pod.ended,
    )
    codes = [code for pod in failed if (code := code_of(pod))]
    best = next((code for code in codes if code not in FOLLOWING), None)
    if best is None and any(_out_of_memory(pod) for pod in failed):
        best = KILLED  # a bare 137 is also what remains of a pod that did not stop in time
    if best is None:
        best = next((code for code in FOLLOWING if code in codes), UNEXPECTED)
    return best


def code_of(pod: PodView) -> int | None:
    """The code with which a pod ended: what its launcher wrote, else the container's."""
    told = pod.outcome.get("exit_code")
    if pod.exit_code and isinstance(told, int) and not isinstance(told, bool) and told > 0:
        return told
    return pod.exit_code


def _out_of_memory(pod: PodView) -> bool:
    return pod.reason == "OOMKilled" or pod.outcome.get("exit_code") == KILLED


def explained(state: RunState, code: int) -> str:
    """Why a run failed, in one line: the first pod that ended so, or what the operator says."""
    for pod in state.pods:
        if code_of(pod) == code:
            words = pod.outcome.get("error") or pod.outcome.get("message") or pod.reason
            text = " ".join(str(words).split())
            return f"rank {pod.rank} ended with {code}" + (f": {text}" if text else "")
    said = " ".join(f"{state.reason}: {state.message}".split()).strip(": ")
    return said or "no pod is left that says why"


def _phase(kind: Kind, job: Json, pods: Sequence[PodView]) -> tuple[str, Json]:
    conditions: list[Json] = dig(job, "status", "conditions") or []
    true = {each["type"]: each for each in conditions if each.get("status") == "True"}
    for name in (*DONE, FAILED):
        if name in true:
            return (FAILED if name == FAILED else SUCCEEDED), true[name]
    if kind.is_suspended(job):
        return SUSPENDED, true.get("Suspended", {})
    running = [pod for pod in pods if pod.phase == "Running" and pod.exit_code is None]
    if pods and len(running) >= kind.num_ranks(job) and not any(pod.problem for pod in running):
        return RUNNING, true.get("Running", {})
    if RESTARTING in true or _has_restarted(job, pods):
        return RESTARTING, true.get(RESTARTING, {})
    return PENDING, true.get("Created", {})


def _has_restarted(job: Json, pods: Sequence[PodView]) -> bool:
    counts = (dig(job, "status", "restarts"), dig(job, "status", "failed"))
    ended = any(pod.exit_code or pod.restarts for pod in pods)
    return ended or any(_number(count) > 0 for count in counts)


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else -1
