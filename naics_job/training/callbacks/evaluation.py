"""Evaluate all codes every few epochs, log the metrics, and stop early when asked to."""

import logging
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from naics_job.config.schema import Config
from naics_job.errors import ConfigError
from naics_job.evaluation.metrics import LOWER_IS_BETTER
from naics_job.evaluation.report import EvaluationReport, evaluate
from naics_job.observability.heartbeat import beat
from naics_job.observability.logs import event
from naics_job.taxonomy.tree import IntArray
from naics_job.training.module import NaicsModule

log = logging.getLogger(__name__)
SHOWN = ("cophenetic", "ndcg@10", "parent@1")


class EvaluationCallback(pl.Callback):
    """Runs `evaluation.report.evaluate` at `model.eval_every_n_epochs`; keeps every report.

    What it calls held-out are the validation families: the test families are scored once, at the
    end, by `training.final`.
    """

    def __init__(self, config: Config, heldout: IntArray) -> None:
        self.every = config.model.eval_every_n_epochs
        self.early = config.training.early_stopping
        self.heldout = heldout
        self.history: list[dict[str, Any]] = []
        self.best, self.without_progress = float("-inf"), 0
        self.best_weights: dict[str, Tensor] | None = None
        self.best_step = 0
        self.stopped = False  # whether this process stopped early

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make up for the evaluation of an epoch whose last step was the last before a resume."""
        position = trainer.datamodule.position  # type: ignore[attr-defined]
        done = {entry["step"] for entry in self.history}
        if position.position == 0 and position.epoch > 0 and trainer.global_step not in done:
            self._evaluate(trainer, pl_module, position.epoch)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._evaluate(trainer, pl_module, trainer.current_epoch + 1)

    def _evaluate(self, trainer: pl.Trainer, pl_module: pl.LightningModule, epoch: int) -> None:
        """Evaluate after `epoch` finished epochs if it is time to."""
        assert isinstance(pl_module, NaicsModule)
        if epoch % self.every and epoch != trainer.max_epochs:
            return
        scores = self.run(pl_module, trainer.global_step, epoch)
        if self.early.enabled:
            self._stop_early(trainer, pl_module, scores)

    def run(self, module: NaicsModule, step: int, epoch: int) -> dict[str, float]:
        """Evaluate now; returns `all/...`, `heldout/...` and `health/...` by name."""
        report = evaluate_module(module, self.heldout)
        scores = scalars_of(report)
        self.history.append({"step": step, "epoch": epoch, **scores})
        if module.logger is not None:
            for logger in module.loggers:
                logger.log_metrics(scores, step=step)
        fields = {name: round(report.all[name], 4) for name in SHOWN}
        fields |= {f"heldout {n}": round(report.heldout[n], 4) for n in SHOWN if report.heldout}
        event(log, logging.INFO, "evaluation", step=step, epoch=epoch, **fields)
        return scores

    def restore_best(self, module: NaicsModule) -> int | None:
        """Put the weights of the best evaluation back; the step they are of.

        None where early stopping is off or they are the newest.
        """
        if self.best_weights is None or self.best_step == self.history[-1]["step"]:
            return None
        module.load_state_dict(self.best_weights, strict=False)
        event(log, logging.INFO, "early_stopping.restored", step=self.best_step)
        return self.best_step

    def _stop_early(
        self, trainer: pl.Trainer, module: NaicsModule, scores: dict[str, float]
    ) -> None:
        if self.early.metric not in scores:
            known = ", ".join(sorted(scores))
            raise ConfigError(
                f"training.early_stopping.metric={self.early.metric!r} is not evaluated",
                f"choose one of {known}",
            )
        sign = -1.0 if self.early.metric.rpartition("/")[2] in LOWER_IS_BETTER else 1.0
        score = sign * scores[self.early.metric]
        if score > self.best:
            self.best, self.without_progress = score, 0
            self.best_weights, self.best_step = module.trained_state(), trainer.global_step
            return
        self.without_progress += 1
        if self.without_progress >= self.early.patience:
            event(
                log, logging.INFO, "early_stopping", metric=self.early.metric, best=sign * self.best
            )
            trainer.should_stop = self.stopped = True

    def state_dict(self) -> dict[str, Any]:
        return {
            "history": self.history,
            "best": self.best,
            "without_progress": self.without_progress,
            "best_weights": self.best_weights,
            "best_step": self.best_step,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = list(state_dict["history"])
        self.best, self.without_progress = state_dict["best"], state_dict["without_progress"]
        self.best_weights, self.best_step = state_dict["best_weights"], state_dict["best_step"]


def scalars_of(report: EvaluationReport) -> dict[str, float]:
    """Every number of a report under `all/`, `heldout/` and `health/`."""
    parts = {"all": report.all, "heldout": report.heldout, "health": report.health}
    return {f"{part}/{name}": float(v) for part, row in parts.items() for name, v in row.items()}


def evaluate_module(module: NaicsModule, heldout: IntArray) -> EvaluationReport:
    """Score every code; the codes stand with the features that training gives them."""
    beat()
    encoded = module.embed_all()
    beat()
    points, curvature = encoded.points.cpu(), float(encoded.curvature)
    return evaluate(points, module.taxonomy, heldout, curvature)
