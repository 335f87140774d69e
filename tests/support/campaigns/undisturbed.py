"""The run that nothing disturbs, to which all others are compared."""

import time
from dataclasses import dataclass

from campaigns.counts import Counts
from campaigns.scene import Scene, trace_of
from campaigns.stage import START_S, Stage


@dataclass(frozen=True)
class Reference:
    """Loss by step and a digest of the final weights; how long such a run takes, in seconds."""

    trace: dict[int, float]
    digest: str
    seconds: float

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return len(self.trace)


def undisturbed(stage: Stage, *settings: str) -> Reference:
    """Run once to make the shared data, and once more to take the time."""
    seconds = 0.0
    for _ in range(2):
        scene = stage.scene(*settings, data=stage.shared_data)
        run = stage.processes.start(scene.command())
        started = time.monotonic()
        code = run.wait(START_S)
        seconds = time.monotonic() - started
        assert code == 0, run.text[-3000:]
    trace = trace_of(scene.steps())
    assert list(trace) == list(range(len(trace)))
    return Reference(trace, scene.weights_digest(), seconds)


def compare(counts: Counts, scene: Scene, reference: Reference, num_breaks: int) -> None:
    """Count in what a finished run differs from the undisturbed one.

    A process that is killed between a save and the log line of its step leaves that line out, so
    `num_breaks` lines may be missing.
    """
    counts.add("runs finished")
    steps = scene.steps()
    try:
        trace = trace_of(steps)
    except AssertionError as error:
        counts.add("runs with another loss")
        counts.fail(f"{scene.folder.name}: {error}")
        return
    wrong = [step for step, loss in trace.items() if reference.trace.get(step) != loss]
    missing = reference.trace.keys() - trace.keys()
    if wrong or len(missing) > num_breaks:
        counts.add("runs with another loss")
        counts.fail(f"{scene.folder.name}: losses differ at {wrong}, none at {sorted(missing)}")
    if scene.weights_digest() != reference.digest:
        counts.add("runs with other weights")
        counts.fail(f"{scene.folder.name}: the final weights differ")


DIFFERENCES = {"runs with another loss": 0, "runs with other weights": 0}
