"""Train no further step of a run that is finished: it is only loaded, scored and exported again."""

import lightning.pytorch as pl


class FinishedCallback(pl.Callback):
    """Ends the fit before its first step, as Lightning's own timer does when its time is up."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = True
