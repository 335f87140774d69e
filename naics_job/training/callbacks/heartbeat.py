"""Show the launcher that training goes on: a beat at each batch, none outside of training."""

from typing import Any

import lightning.pytorch as pl

from naics_job.observability.heartbeat import beat, rest


class HeartbeatCallback(pl.Callback):
    """First of the callbacks: what the others do at the end may take its time."""

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        beat()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any,
        batch_idx: int,
    ) -> None:  # fmt: skip
        beat()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        rest()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        rest()
