"""What a person sees while a run trains: phase, loss, rate and an honest time left."""

import logging
import sys
import time
from typing import Any

import lightning.pytorch as pl
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from naics_job.observability.logs import event
from naics_job.training.callbacks.throughput import ThroughputCallback
from naics_job.training.module import NaicsModule

log = logging.getLogger(__name__)
LINE_EVERY_S = 15.0


class ProgressCallback(pl.Callback):
    """A bar on a terminal, a log line every 15 s elsewhere.

    The time left is an estimate per phase kind: steps on cached features and steps that train the
    encoder differ by orders of magnitude, so only steps of the present kind are extrapolated, and
    while slower steps are still to come the line says "to encoder training" instead of "left".
    """

    def __init__(self, throughput: ThroughputCallback) -> None:
        self.throughput = throughput
        self._total = 0  # optimizer steps of the run, also where a resume has more than planned
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._line_at = 0.0
        self._kind_since: tuple[bool, int, float] | None = None  # encoder trains, step, time

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._total = int(trainer.estimated_stepping_batches)
        if not trainer.is_global_zero:
            return
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=30))
            console = Console(stderr=True)
            self._bar = Progress(*columns, TextColumn("{task.fields[tail]}"), console=console)
            self._bar.start()
            self._task = self._bar.add_task("starting", total=self._total, tail="")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any,
        batch_idx: int,
    ) -> None:  # fmt: skip
        assert isinstance(pl_module, NaicsModule)
        now = time.monotonic()
        kind = pl_module.lora_active(trainer.global_step)
        if self._kind_since is None or self._kind_since[0] != kind:
            self._kind_since = (kind, trainer.global_step, now)
        due = now - self._line_at >= (0.2 if self._bar is not None else LINE_EVERY_S)
        if not trainer.is_global_zero or not due:
            return
        self._line_at = now
        self._show(trainer, pl_module, float(_loss_of(outputs)), now)

    def _show(self, trainer: pl.Trainer, module: NaicsModule, loss: float, now: float) -> None:
        state, step = module.phase_state(), trainer.global_step
        total, first = self._total, module.lora_first_step
        rate, left = self.throughput.anchors_per_s, self._time_left(step, first, now)
        if self._bar is not None:
            last = trainer.max_epochs or -1
            epoch = f"{trainer.current_epoch + 1}" + (f"/{last}" if last > 0 else "")
            title = f"epoch {epoch} phase {state.phase:d}"
            tail = f"{step}/{total} loss {loss:.3f} {rate:,.0f} anchors/s {left}"
            self._bar.update(self._task, completed=step, description=title, tail=tail)
            return
        fields = {"step": f"{step}/{total}", "phase": int(state.phase), "loss": round(loss, 4)}
        rates = {"anchors_per_s": round(rate, 1), "left": left}
        event(log, logging.INFO, "training", **fields, **rates)

    def _time_left(self, step: int, lora_first_step: int | None, now: float) -> str:
        assert self._kind_since is not None
        _, since_step, since = self._kind_since
        done = step - since_step
        if done < 3:
            return "measuring"
        first = self._total if lora_first_step is None else lora_first_step
        slower_later = step < first < self._total
        until = first if slower_later else self._total
        seconds = (now - since) / done * max(0, until - step)
        text = f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
        return f"{text} to encoder training" if slower_later else f"{text} left"

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._stop()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _loss_of(outputs: Any) -> torch.Tensor:
    loss = outputs["loss"] if isinstance(outputs, dict) else outputs
    assert isinstance(loss, torch.Tensor)
    return loss.detach()
