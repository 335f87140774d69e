"""Save at the announced interval, at the end, and when a signal asks to stop."""

import logging
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl

from naics_job.checkpoint.manifest import CheckpointFacts
from naics_job.checkpoint.store import RunStore
from naics_job.distributed import is_main, largest
from naics_job.errors import NaicsJobError
from naics_job.observability.logs import event
from naics_job.training.loop_state import recount_batches, reopen_epoch, settle_epoch

log = logging.getLogger(__name__)

Describe = Callable[[pl.Trainer], CheckpointFacts]


class StoppedBySignalError(NaicsJobError):
    """The run was told to stop, has saved, and can be resumed."""

    def __init__(self, message: str, hint: str, exit_code: int) -> None:
        super().__init__(message, hint)
        self.exit_code = exit_code


class CheckpointCallback(pl.Callback):
    """Writes to node-local scratch first; the `RunStore` publishes, verifies and prunes."""

    def __init__(self, store: RunStore, every_n_steps: int, describe: Describe) -> None:
        self.store, self.every, self.describe = store, every_n_steps, describe
        self.saved_step = -1
        self.newest: str | None = None  # path or URL of the newest checkpoint of this process
        self.save_seconds: list[float] = []
        self.restarts = 0  # how often the run was resumed so far
        self._signal: int | None = None
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.saved_step = trainer.global_step
        for number in (signal.SIGINT, signal.SIGTERM):  # after Lightning has installed its own
            self._previous[number] = signal.signal(number, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: do not wait for the end of the step
        self._signal = number

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
        number = largest(self._signal or 0)  # told to one process, obeyed by all after one step
        if number == 0:
            return
        if step != self.saved_step:
            self.save(trainer)
        _log_step(trainer)
        name = signal.Signals(number).name
        raise StoppedBySignalError(
            f"stopped by {name} after step {step}; the checkpoint is saved",
            "continue with: naics-embedder train --ckpt-path last",
            128 + number,
        )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step != self.saved_step:
            self.save(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        """Save the state after the newest optimizer step; every process calls this."""
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="naics-checkpoint-") as scratch:
            path = Path(scratch) / "state.ckpt"
            trainer.save_checkpoint(path)
            if is_main():
                manifest = self.store.save(path, self.describe(trainer))
                self.newest = self.store.catalogue.url(manifest.path)
                event(log, logging.INFO, "checkpoint.saved", step=manifest.step,
                      megabytes=round(manifest.size_bytes / 1e6, 1))  # fmt: skip
        self.saved_step = trainer.global_step
        self.save_seconds.append(time.monotonic() - started)

    def state_dict(self) -> dict[str, Any]:
        return {"restarts": self.restarts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.restarts = int(state_dict["restarts"]) + 1

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._give_back()  # Lightning calls `teardown` after a fit that ends well only

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._give_back()

    def _give_back(self) -> None:
        """Let the signals mean what they meant before training."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()


def _log_step(trainer: pl.Trainer) -> None:
    """Log the newest step, which Lightning would only do after the hook that stops the run."""
    if trainer.global_step % trainer.log_every_n_steps:  # type: ignore[attr-defined]
        return
    scalars = {name: float(value) for name, value in trainer.logged_metrics.items()}
    for logger in trainer.loggers:
        logger.log_metrics(scalars, step=trainer.global_step - 1)
