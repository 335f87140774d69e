"""`naics-embedder` in a process of a campaign, with what the campaign wants to happen inside.

`python -m campaigns.child ARGUMENTS` is the real command; HOOKS in the environment, a JSON object,
may add to it. The product knows nothing of this: its classes are wrapped from outside.

    at_step   [step, signal]: send the signal to this process when the step is done, before its save
    note_ids  folder: write the anchors of every step, one file per process
    time_end  file: append [step, seconds] the checkpoint callback took after each batch
"""

import json
import os
import time
from pathlib import Path
from typing import Any

HOOKS = "CHAOS_HOOKS"


def run() -> None:
    """Apply the hooks and run the command line; ends as the command does."""
    hooks = json.loads(os.environ.get(HOOKS, "{}"))
    if "at_step" in hooks:
        _signal_at(*hooks["at_step"])
    if "note_ids" in hooks:
        _note_ids(Path(hooks["note_ids"]))
    if "time_end" in hooks:
        _time_end(Path(hooks["time_end"]))

    from naics_job.cli.app import main

    main()


def _signal_at(step: int, number: int) -> None:
    from naics_job.training.callbacks.throughput import ThroughputCallback

    original, left = ThroughputCallback.on_train_batch_end, [step]

    def patched(self: Any, trainer: Any, *arguments: Any) -> None:
        original(self, trainer, *arguments)
        if left and trainer.global_step == step:
            left.clear()
            os.kill(os.getpid(), number)

    ThroughputCallback.on_train_batch_end = patched  # type: ignore[method-assign]


def _note_ids(folder: Path) -> None:
    from naics_job.training.module import NaicsModule

    original = NaicsModule.training_step
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"rank-{os.environ.get('RANK', '0')}.jsonl"

    def noting(self: Any, batch: Any, batch_idx: int) -> Any:
        row = {"step": self.trainer.global_step, "anchors": batch.anchors.tolist()}
        with file.open("a") as lines:
            lines.write(json.dumps({**row, "positives": batch.positives.tolist()}) + "\n")
        return original(self, batch, batch_idx)

    NaicsModule.training_step = noting  # type: ignore[method-assign]


def _time_end(file: Path) -> None:
    from naics_job.training.callbacks.checkpointing import CheckpointCallback

    original = CheckpointCallback.on_train_batch_end

    def timed(self: Any, trainer: Any, *arguments: Any) -> None:
        started = time.monotonic()
        try:
            original(self, trainer, *arguments)
        finally:
            row = [trainer.global_step, time.monotonic() - started]
            with file.open("a") as lines:
                lines.write(json.dumps(row) + "\n")

    CheckpointCallback.on_train_batch_end = timed  # type: ignore[method-assign]


if __name__ == "__main__":
    run()
