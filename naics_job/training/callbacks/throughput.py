"""Count anchors, codes and tokens, and how long steps and waits for data take."""

import resource
import sys
import time
from typing import Any

import lightning.pytorch as pl

from naics_job.training.module import NaicsModule


class ThroughputCallback(pl.Callback):
    """Rates of this process over the whole run and over the newest steps."""

    def __init__(self, started: float) -> None:
        self.started = started  # time.monotonic() when the command began
        self.time_to_first_step_s: float | None = None
        self.num_anchors = self.num_tokens = 0
        self.step_seconds = self.wait_seconds = 0.0
        self.anchors_per_s = 0.0  # smoothed over about 20 steps
        self._begin = self._end = 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._begin = time.monotonic()
        if self._end:
            self.wait_seconds += self._begin - self._end

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
        seconds = now - self._begin
        anchors = len(batch.anchors)
        self.num_anchors += anchors
        self.num_tokens += pl_module.step_encoder.step_tokens
        self.step_seconds += seconds
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


def peak_rss_bytes() -> int:
    """Most memory this process has held, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
