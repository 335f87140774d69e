"""Log how large the gradients are before they are clipped."""

import lightning.pytorch as pl
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from naics_job.training.trainer import is_logged


class GradientNormCallback(pl.Callback):
    """Measures in the steps that are logged only."""

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        if not is_logged(trainer, trainer.global_step + 1):
            return
        gradients = [value.grad for value in pl_module.parameters() if value.grad is not None]
        pl_module.log("train/gradient_norm", get_total_norm(gradients))
