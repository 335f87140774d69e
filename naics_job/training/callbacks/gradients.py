"""Log how large the gradients are before they are clipped."""

import lightning.pytorch as pl
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer


class GradientNormCallback(pl.Callback):
    """Measures in the steps that are logged only."""

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if not every or (trainer.global_step + 1) % every:
            return
        gradients = [value.grad for value in pl_module.parameters() if value.grad is not None]
        pl_module.log("train/gradient_norm", get_total_norm(gradients))
