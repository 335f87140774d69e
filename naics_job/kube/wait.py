"""Wait until a run is done or failed, and know why it is neither.

Codes: 0 finished; else that of the contract, from what the pods left; 75 when the time is up, 78
when a pod cannot start for a reason that waiting does not mend, 143 when it was cancelled.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from naics_job.errors import ConfigError, NaicsJobError, TransientError
from naics_job.kube.api import Cluster
from naics_job.kube.kinds import Kind
from naics_job.kube.pods import PodView, Problem
from naics_job.kube.runs import state as current
from naics_job.kube.runs import told_by_events
from naics_job.kube.state import (
    PENDING,
    PREEMPTED,
    RESTARTING,
    SUCCEEDED,
    RunState,
    code_of,
    explained,
    outcome_code,
)
from naics_job.kube.watch import RunWatch

TICK_S = 5.0
LOOK_FOR_EVENTS_S = 20.0  # of a pod that does not start and does not say why


class RunFailedError(NaicsJobError):
    """A run that was waited for has failed; the exit code is the run's own."""

    def __init__(self, message: str, hint: str, exit_code: int) -> None:
        super().__init__(message, hint)
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[type["RunFailedError"], tuple[str, str, int]]:  # type: ignore[override]
        return type(self), (str(self.args[0]), self.hint, self.exit_code)


@dataclass(frozen=True)
class Limits:
    """How long to wait, seconds: for the end, and for a pod that cannot start."""

    timeout_s: float
    start_grace_s: float
    tick_s: float


@dataclass(frozen=True)
class Audience:
    """Who is told while we wait: a line for each change, and each state."""

    say: Callable[[str], None]
    show: Callable[[RunState], None] = lambda state: None


def wait_for(
    cluster: Cluster, kind: Kind, name: str, limits: Limits, audience: Audience
) -> RunState:
    """Wait for the end of a run and return its last state, which is a good one.

    Raises:
        RunFailedError: the run has failed; `exit_code` is the contract's.
        TransientError: the time is up, or the API server was away for too long.
        ConfigError: a pod cannot start, or the run is not there.
    """
    deadline = time.monotonic() + limits.timeout_s
    patience = _Patience(cluster, limits.start_grace_s)
    teller = _Teller(audience.say)
    with RunWatch(cluster, kind, name) as watch:
        for state in watch.states(limits.tick_s, deadline):
            audience.show(state)
            teller.tell(state)
            if state.ended:
                # the watch of the pods may lag behind that of the run
                now = current(cluster, kind, state.job)
                audience.show(now)
                return _judged(now, watch.seen.values())
            if state.cancelled and not any(_may_run(pod) for pod in state.pods):
                hint = "continue it: the same naics-embedder job submit with --resume"
                raise RunFailedError(f"{name} was cancelled at {state.cancelled}", hint, PREEMPTED)
            patience.check(state)
            if time.monotonic() >= deadline:
                raise _late(state, limits)
    raise AssertionError("states end with an error only")


def _judged(state: RunState, seen: Iterable[PodView]) -> RunState:
    if state.phase == SUCCEEDED:
        return state
    pods = list(seen)
    code = outcome_code(state, pods)
    whole = replace(state, pods=[*state.pods, *pods])
    raise RunFailedError(f"{state.name} failed: {explained(whole, code)}", _look(state), code)


def _late(state: RunState, limits: Limits) -> TransientError:
    what = f"{state.name} is still {state.phase} after {limits.timeout_s:g} s"
    hint = f"the run goes on; wait again: naics-embedder job wait {state.name}"
    return TransientError(what, hint)


def _may_run(pod: PodView) -> bool:
    return pod.exit_code is None and pod.phase not in ("Succeeded", "Failed")


def _look(state: RunState) -> str:
    return f"naics-embedder job logs {state.name}"


class _Patience:
    """Counts how long the same thing has kept the run from starting."""

    def __init__(self, cluster: Cluster, grace_s: float) -> None:
        self.cluster, self.grace_s = cluster, grace_s
        self._since: dict[str, float] = {}  # by object: reasons alternate while one thing is wrong
        self._idle_since: float | None = None
        self._asked_at = 0.0
        self._of_events: list[tuple[str, Problem]] = []

    def check(self, state: RunState) -> None:
        """Raise when a lasting problem has lasted for longer than the grace.

        Raises:
            ConfigError: it has.
        """
        now = time.monotonic()
        found = dict(self._problems(state, now))
        self._since = {key: self._since.get(key, now) for key in found}
        for key, since in self._since.items():
            if now - since >= self.grace_s:
                problem = found[key]
                raise ConfigError(
                    f"{key} of {state.name} cannot start since {now - since:.0f} s: "
                    f"{problem.reason}: {problem.message}",
                    f"{problem.fix}; then: naics-embedder job cancel {state.name} --delete, and "
                    "submit again",
                )

    def _problems(self, state: RunState, now: float) -> Iterator[tuple[str, Problem]]:
        for pod in state.pods:
            if pod.problem is not None and pod.problem.lasting:
                yield pod.name, pod.problem
        waits = state.phase in (PENDING, RESTARTING)
        self._idle_since = (self._idle_since or now) if waits else None
        if self._idle_since is None:
            return
        if now - self._idle_since >= min(LOOK_FOR_EVENTS_S, self.grace_s / 2):
            if now - self._asked_at >= min(TICK_S, self.grace_s / 4):
                self._asked_at, self._of_events = now, list(told_by_events(self.cluster, state))
            yield from (each for each in self._of_events if each[1].lasting)


class _Teller:
    """Says each phase, and each end and problem of a pod, once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self._phase = ""
        self._told: set[tuple[str, str]] = set()

    def tell(self, state: RunState) -> None:
        """Say what is new."""
        if state.phase != self._phase:
            self._phase = state.phase
            self.say(f"{state.name}: {state.phase}")
        for pod in state.pods:
            code = code_of(pod)
            if pod.problem is not None:
                text = f"{pod.problem.reason}: {pod.problem.message}\n  fix: {pod.problem.fix}"
                self._once(pod, pod.problem.reason, text)
            if pod.restarts:
                text = f"restart {pod.restarts}, before that it ended with {pod.last_exit_code}"
                self._once(pod, f"restart {pod.restarts}", text)
            if code is not None:
                self._once(pod, f"ended {code} {pod.restarts}", f"ended with {code} {pod.reason}")

    def _once(self, pod: PodView, key: str, text: str) -> None:
        if (pod.uid, key) not in self._told:
            self._told.add((pod.uid, key))
            self.say(f"  rank {pod.rank} ({pod.name}): {text.rstrip()}")
