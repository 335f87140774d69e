"""Name the loss terms and mechanisms that had no say in the gradient all run long."""

import logging
from typing import Any

import lightning.pytorch as pl

from naics_job.distributed import is_main
from naics_job.observability.logs import event
from naics_job.training.module import naics_module
from naics_job.training.shares import MECHANISM

log = logging.getLogger(__name__)

SMALLEST_SHARE = 0.01


class IdleMechanismsCallback(pl.Callback):
    """Remembers the largest share of each, over all starts of the run.

    What is not measured, because it does not act in the phases that ran, is not named.
    """

    def __init__(self) -> None:
        self.largest: dict[str, float] = {}
        self._trained = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any,
        batch_idx: int,
    ) -> None:  # fmt: skip
        self._trained = True
        for name, share in naics_module(pl_module).shares.items():
            self.largest[name] = max(self.largest.get(name, 0.0), share)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._trained or not is_main():
            return
        for name, share in sorted(self.largest.items()):
            if share < SMALLEST_SHARE:
                kind = "mechanism" if name.startswith(MECHANISM) else "term"
                fields = {kind: name.rpartition("/")[2], "largest_share": share}
                event(log, logging.WARNING, "training.idle_mechanism", **fields)

    def state_dict(self) -> dict[str, Any]:
        return {"largest": self.largest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.largest = dict(state_dict["largest"])
