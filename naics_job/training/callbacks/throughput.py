"""Count anchors, codes and tokens, and how long steps and waits for data take."""

import time
from typing import Any

import lightning.pytorch as pl

from naics_job.observability.gpu import peak_rss_bytes
from naics_job.training.module import NaicsModule


class ThroughputCallback(pl.Callback):
    """Rates of this process over the whole run and over the newest steps."""

    def __init__(self, started: float) -> None:
        self.started = started  # time.monotonic() when the command began
        self.time_to_first_step_s: float | None = None
        self.num_anchors = self.num_tokens = 0
        self.newest_step_s = 0.0
        self.newest_wait_s: float | None = None  # None: what came before was no wait for data
        self.step_seconds = self.wait_seconds = 0.0
        self.lost_steps = 0  # of the newest restart; set from outside
        self.productive_s = 0.0  # time of steps that were not done before
        self._new_from = 0  # steps up to here are done again
        self.anchors_per_s = 0.0  # smoothed over about 20 steps
        self._begin = self._end = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._new_from = trainer.global_step + self.lost_steps

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._begin = time.monotonic()
        self.newest_wait_s = self._begin - self._end if self._end else None
        self.wait_seconds += self.newest_wait_s or 0.0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end = 0.0  # the evaluation that follows is no wait for data

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any,
        batch_idx: int,
    ) -> None:  # fmt: skip
        assert isinstance(pl_module, NaicsModule)
        now = time.monotonic()
        if self.time_to_first_step_s is None:
            self.time_to_first_step_s = now - self.started
        seconds = self.newest_step_s = now - self._begin
        anchors = len(batch.anchors)
        self.num_anchors += anchors
        self.num_tokens += pl_module.step_encoder.step_tokens
        self.step_seconds += seconds
        if trainer.global_step > self._new_from:
            self.productive_s += seconds
        rate = anchors / max(seconds, 1e-9)
        self.anchors_per_s += (rate - self.anchors_per_s) * (0.05 if self.anchors_per_s else 1.0)
        self._end = now
        scalars = {"train/anchors_per_s": self.anchors_per_s, "train/step_s": seconds}
        pl_module.log_dict(scalars, batch_size=1)

    def summary(self) -> dict[str, float | None]:
        """Totals for the run record; rates count time inside steps and waits only."""
        busy = max(self.step_seconds + self.wait_seconds, 1e-9)
        return {
            "time_to_first_step_s": self.time_to_first_step_s,
            "anchors_per_s": self.num_anchors / busy,
            "tokens_per_s": self.num_tokens / busy,
            "peak_rss_bytes": peak_rss_bytes(),
        }
