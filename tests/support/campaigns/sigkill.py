"""Kill a run at random moments, resume it each time, and see what that costs.

Kills come at a random time of a run, or amid the upload of a checkpoint, which the proxy makes
slow. A run that finishes is compared with the undisturbed one; then the next run begins.
"""

import re
import time
from dataclasses import dataclass

from campaigns.counts import Counts
from campaigns.processes import Started
from campaigns.scene import Scene
from campaigns.stage import START_S, Stage
from campaigns.undisturbed import DIFFERENCES, Reference, compare, undisturbed

MAX_LOST = 28
SETTINGS = ("training.trainer.max_epochs=8", f"checkpoint.max_lost_steps={MAX_LOST}")
UPLOAD_S, HELD_S = 0.15, 2.0  # a checkpoint is on its way; as long as a kill amid it may need
WINDOW_S = 0.1  # after the begin of an upload: a part of an interval
AMID_UPLOAD = (0, 3)  # of every five kills, on a store behind a proxy
OWN_DATA = 0.2  # share of runs that make their data themselves
LOST = "lost steps of one kill"
MOST_KILLS = 8  # of one run
GOALS = {
    "corrupt loads": 0,
    "silent restarts at step 0": 0,
    "starts that failed": 0,
    "steps behind the newest checkpoint": 0,
    **DIFFERENCES,
}


@dataclass
class Life:
    """One experiment from its first start to its end."""

    scene: Scene
    kills: int = 0
    expected: int | None = None  # step of the checkpoint that the next start must take


def sigkill(stage: Stage, count: int) -> Counts:
    """`count` kills; every run is resumed to its end."""
    counts = Counts("sigkill", stage.kind, goals=GOALS)
    counts.limits[LOST] = MAX_LOST
    for name in ("kills", "kills amid an upload", LOST, *GOALS):
        counts.add(name, 0)
    reference = undisturbed(stage, *SETTINGS)
    while counts.values["kills"] < count:
        fresh = stage.random.random() < OWN_DATA
        life = Life(stage.scene(*SETTINGS, data=None if fresh else stage.shared_data))
        num_kills = stage.random.randint(1, MOST_KILLS)
        while life.kills < num_kills and counts.values["kills"] < count:
            if not _one_start(stage, life, reference, counts):
                break
        else:
            _finish(stage, life, counts)
        compare(counts, life.scene, reference, life.kills)
        if counts.missed():
            break  # the folder of this run is the evidence
    return counts


def is_upload(line: str) -> bool:
    """Whether a request sends a checkpoint."""
    return line.startswith("PUT ") and line.endswith(".ckpt")


def _one_start(stage: Stage, life: Life, reference: Reference, counts: Counts) -> bool:
    """Start and kill; False when the run came to its end before."""
    upload = stage.proxy is not None and counts.values["kills"] % 5 in AMID_UPLOAD
    _slow_uploads(stage, HELD_S if upload else UPLOAD_S)
    run = stage.processes.start(life.scene.command())
    if upload:
        assert stage.proxy is not None
        paused = stage.proxy.paused
        run.until(lambda: bool(paused) or run.code() is not None, START_S, "an upload")
    time.sleep(stage.random.uniform(0, WINDOW_S if upload else reference.seconds))
    if run.code() is not None:
        _check_start(life, run, counts)
        return False
    amid = bool(stage.proxy is not None and stage.proxy.paused)
    run.kill()
    life.kills += 1
    counts.add("kills")
    counts.add("kills amid an upload", int(amid))
    _check_start(life, run, counts)
    done = life.scene.steps_done()
    newest, skipped = life.scene.newest()
    counts.add("corrupt loads", len(skipped))
    saved = newest.step if newest is not None else 0
    counts.at_least(LOST, done - saved)
    life.expected = newest.step if newest is not None else None
    counts.rows.append({
        "run": life.scene.folder.name, "steps": done, "saved": saved, "amid_upload": amid,
        "last_event": (run.events() or [("", "")])[-1][0],
    })  # fmt: skip
    return True


def resumed_steps(run: Started) -> list[int]:
    """Steps of the checkpoints that the run says it resumed."""
    texts = [text for name, text in run.events() if name == "checkpoint.resume"]
    return [int(found[1]) for text in texts if (found := re.search(r"step=(\d+)", text))]


def _slow_uploads(stage: Stage, seconds: float) -> None:
    if stage.proxy is not None:
        stage.proxy.pause = lambda line: seconds if is_upload(line) else 0.0


def _finish(stage: Stage, life: Life, counts: Counts) -> None:
    _slow_uploads(stage, UPLOAD_S)
    run = stage.processes.start(life.scene.command())
    run.wait(START_S)
    _check_start(life, run, counts)


def _check_start(life: Life, run: Started, counts: Counts) -> None:
    """What the log of one start says about the checkpoint it began with, and how it ended."""
    where = run.log.name
    code = run.code()
    if code not in (0, None, -9):
        counts.add("corrupt loads" if code == 74 else "starts that failed")
        counts.fail(f"{where} ended with {code}: {run.text[-1000:]}")
    events = run.events()
    counts.add("corrupt loads", sum(name == "checkpoint.skipped" for name, _ in events))
    resumed = resumed_steps(run)
    began = any(name == "curriculum.phase" for name, _ in events)
    if life.expected is None or not (resumed or began):
        return
    if not resumed:
        counts.add("silent restarts at step 0")
        counts.fail(f"{where} began anew beside a checkpoint of step {life.expected}")
    elif resumed[0] != life.expected:
        counts.add("steps behind the newest checkpoint", life.expected - resumed[0])
        counts.fail(f"{where} resumed step {resumed[0]}, not {life.expected}")
