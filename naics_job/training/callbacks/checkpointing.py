"""Save at the announced interval, at the end, and when a signal asks to stop."""

import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from naics_job.checkpoint.manifest import CheckpointFacts
from naics_job.checkpoint.uploader import Snapshot, Uploader
from naics_job.distributed import broadcast_object, largest
from naics_job.observability.heartbeat import rest
from naics_job.stopping import Stop
from naics_job.training.loop_state import recount_batches, reopen_epoch, settle_epoch
from naics_job.training.snapshot import SnapshotIO
from naics_job.training.trainer import is_logged

log = logging.getLogger(__name__)

Describe = Callable[[pl.Trainer], CheckpointFacts]
AGAIN = "continue with: naics-embedder train --ckpt-path last"
FAILED = 1 << 16  # beside the numbers of signals: the main process can store no more


class CheckpointCallback(pl.Callback):
    """Takes snapshots on the local disk; the main process hands them to its `Uploader`.

    Args:
        uploader: of the main process; None on the others, which only take part in snapshots.
        max_lost_steps: that a kill may cost. A save begins after every half of them: it is stored
            while training goes on, and a run killed just before that still has the one before.
        describe: what a manifest says about the state.
        stop: what this process knows about being told to stop.
        grace_s: seconds after a signal within which the last state must be stored.
        snapshots: how a state is written to the local disk.
    """

    def __init__(
        self,
        uploader: Uploader | None,
        max_lost_steps: int,
        describe: Describe,
        stop: Stop,
        grace_s: float,
        snapshots: SnapshotIO,
    ) -> None:
        self.uploader, self.every, self.describe = uploader, max_lost_steps // 2, describe
        self.stop, self.grace_s, self.snapshots = stop, grace_s, snapshots
        self.saved_step = -1
        self.block_seconds: list[float] = []  # how long each save held the training thread
        self.restarts = 0  # how often the run was resumed so far
        self.lost_steps = 0  # of all restarts so far; the newest one's are set from outside
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.saved_step = trainer.global_step
        if self.uploader is not None:  # the age of the newest checkpoint counts from here
            self.uploader.stored_at = time.monotonic()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        position = trainer.datamodule.position  # type: ignore[attr-defined]
        if position.position == 0:
            settle_epoch(checkpoint["loops"], position.epoch, trainer.global_step)
        else:
            reopen_epoch(checkpoint["loops"], position.epoch)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        done = datamodule.position.position // datamodule.dataset.rows
        if done:  # the datamodule is restored before callbacks, the loops after them
            recount_batches(checkpoint["loops"], done)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any,
        batch_idx: int,
    ) -> None:  # fmt: skip
        last = trainer.is_last_batch
        trainer.datamodule.record(batch, last)  # type: ignore[attr-defined]
        step = trainer.global_step
        if step != self.saved_step and step % self.every == 0:
            self.save(trainer)
        accumulating = (batch_idx + 1) % trainer.accumulate_grad_batches
        if accumulating and not last:
            return  # an unfinished optimizer step cannot be saved
        failed = self.uploader is not None and self.uploader.error is not None
        # told to one process, obeyed by all after one step
        word = largest(FAILED if failed else self.stop.number or 0)
        if word == FAILED:
            self._require_stored()
        elif word:
            self._stop(trainer, word)

    def _stop(self, trainer: pl.Trainer, number: int) -> None:
        """Save, wait until that is stored, and end the run.

        Raises:
            StoppedBySignalError: on every process.
        """
        if self.stop.number is None:  # told to another process
            self.stop.number, self.stop.told_at = number, time.monotonic()
        if trainer.global_step != self.saved_step:
            self.save(trainer)
        self._require_stored()
        _log_step(trainer)
        text = f"after step {trainer.global_step}; the checkpoint is saved"
        raise self.stop.error(text, AGAIN)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step != self.saved_step:
            self.save(trainer)
        self._require_stored()

    def save(self, trainer: pl.Trainer) -> None:
        """Take a snapshot of the state after the newest optimizer step; every process calls this.

        A snapshot that cannot be written is counted as a failed save.
        """
        started = time.monotonic()
        step = trainer.global_step
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="naics-checkpoint-")
        path = Path(self._scratch.name) / f"step-{step:08d}.ckpt"
        trainer.save_checkpoint(path)
        self.saved_step = step
        if self.uploader is not None:
            failure = self.snapshots.failure
            if failure is not None:
                self.uploader.note_failure(failure)
            else:
                self.uploader.submit(Snapshot(path, self.describe(trainer)))
        self.block_seconds.append(time.monotonic() - started)

    def _require_stored(self) -> None:
        """Wait until the newest snapshot is stored, after a signal for the grace period only.

        Raises:
            NaicsJobError: why it is not, on every process.
        """
        error = None
        rest()
        if self.uploader is not None:
            error = self.uploader.flush(lambda: self.stop.seconds_left(self.grace_s))
        error = broadcast_object(error)
        if error is not None:
            raise error

    def state_dict(self) -> dict[str, Any]:
        return {"restarts": self.restarts, "lost_steps": self.lost_steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.restarts = int(state_dict["restarts"]) + 1
        self.lost_steps += int(state_dict.get("lost_steps", 0))

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """What was handed over before the failure is still stored.

        Lightning calls `teardown` after a fit that ends well only.
        """
        if self.uploader is not None and not isinstance(exception, KeyboardInterrupt):
            until = time.monotonic() + self.grace_s
            self.uploader.flush(lambda: until - time.monotonic())
        self._close()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._close()

    def _close(self) -> None:
        if self.uploader is not None:
            self.uploader.close()
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None


def _log_step(trainer: pl.Trainer) -> None:
    """Log the newest step, which Lightning would only do after the hook that stops the run."""
    if not is_logged(trainer, trainer.global_step):
        return
    scalars = {name: float(value) for name, value in trainer.logged_metrics.items()}
    for logger in trainer.loggers:
        logger.log_metrics(scalars, step=trainer.global_step - 1)
