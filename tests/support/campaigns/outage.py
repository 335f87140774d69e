"""Cut off the store of a run that trains, and see whether it goes on and saves afterwards."""

import signal
import time

from campaigns.counts import Counts
from campaigns.processes import Started
from campaigns.scene import Scene
from campaigns.stage import START_S, Stage

SETTINGS = (  # long enough to be stopped in the end
    "training.trainer.max_epochs=100000",
    "model.eval_every_n_epochs=100000",
    "checkpoint.max_lost_steps=40",
)
SHARE = 0.1  # of the time in an outage that no step may fill at once
LANDS_S = 180.0  # pauses between the tries of an upload have grown in the outage
GOALS = {"training stopped": 0, "next save landed": 1, "stopped and saved (exit 143)": 1}


def outage(stage: Stage, seconds: float) -> Counts:
    """One outage of `seconds`, begun between two saves."""
    assert stage.proxy is not None
    counts = Counts("outage", stage.kind, goals=GOALS)
    counts.add("seconds without the store", seconds)
    scene = stage.scene(*SETTINGS, data=stage.shared_data)
    run = stage.processes.start(scene.command())
    run.until(lambda: _saved(scene, run) > 0, START_S, "the first save")
    before = last_step(scene)
    stage.proxy.down = True
    try:
        longest = _longest_pause(scene, run, seconds)
    finally:
        stage.proxy.down = False
    during = last_step(scene)
    counts.add("steps during the outage", during - before)
    counts.add("longest pause between steps, s", longest)
    stopped = run.code() is not None or during == before or longest > max(5.0, SHARE * seconds)
    counts.add("training stopped", int(stopped))
    run.until(lambda: _saved(scene, run) >= during, LANDS_S, "a save after the outage")
    counts.add("next save landed")
    run.send(signal.SIGTERM)
    counts.add("stopped and saved (exit 143)", int(run.wait(START_S) == 128 + signal.SIGTERM))
    done, (newest, _) = scene.steps_done(), scene.newest()
    counts.add("steps lost in the end", done - (newest.step if newest else 0))
    counts.goals["steps lost in the end"] = 0
    return counts


def _saved(scene: Scene, run: Started) -> int:
    """Step of the newest save that the run says is stored; its end is an error here."""
    assert run.code() is None, f"ended with {run.code()}: {run.text[-3000:]}"
    steps = [text for name, text in run.events() if name == "checkpoint.saved"]
    return max((int(text.partition("step=")[2].split()[0]) for text in steps), default=0)


def last_step(scene: Scene) -> int:
    """Optimizer steps that are logged as done."""
    return max((step + 1 for step, _ in scene.steps()), default=0)


def _longest_pause(scene: Scene, run: Started, seconds: float) -> float:
    """The longest time without a step within the next `seconds`."""
    started = moved = time.monotonic()
    step, longest = last_step(scene), 0.0
    while (now := time.monotonic()) < started + seconds and run.code() is None:
        time.sleep(0.05)
        if (reached := last_step(scene)) > step:
            step, moved = reached, time.monotonic()
        longest = max(longest, now - moved)
    return longest
