"""When the embedding is evaluated, and early stopping."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from naics_job.config.load import load_config
from naics_job.evaluation.report import EvaluationReport
from naics_job.training.callbacks import evaluation
from naics_job.training.callbacks.evaluation import EvaluationCallback
from naics_job.training.module import NaicsModule

NAMES = ("cophenetic", "ndcg@10", "parent@1", "distortion")


class Probe(NaicsModule):
    """A module as far as the callback asks for one."""

    logger = None

    def __init__(self) -> None:  # the parts of a real one are not needed
        torch.nn.Module.__init__(self)
        self.weight = torch.nn.Parameter(torch.zeros(1))


class Fixture:
    """A callback and a trainer whose evaluations give what is queued."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> None:
        config = load_config(None, "smoke", list(overrides)).config
        self.callback = EvaluationCallback(config, np.arange(2))
        self.trainer: Any = SimpleNamespace(
            current_epoch=0, global_step=0, max_epochs=10, should_stop=False,
            datamodule=SimpleNamespace(position=SimpleNamespace(epoch=0, position=0)),
        )  # fmt: skip
        self.module = Probe()
        self.scores: list[float] = []
        monkeypatch.setattr(evaluation, "evaluate_module", lambda *_: self._report())

    def _report(self) -> EvaluationReport:
        row = dict.fromkeys(NAMES, self.scores.pop(0) if self.scores else 0.5)
        return EvaluationReport(all=row, heldout=row, health={})

    def end_epochs(self, count: int) -> None:
        for _ in range(count):
            self.trainer.global_step += 7
            with torch.no_grad():
                self.module.weight.fill_(self.trainer.global_step)
            self.callback.on_train_epoch_end(self.trainer, self.module)
            self.trainer.current_epoch += 1

    @property
    def epochs(self) -> list[int]:
        return [entry["epoch"] for entry in self.callback.history]


def test_evaluates_every_n_epochs_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Fixture(monkeypatch, "model.eval_every_n_epochs=4")
    run.end_epochs(10)
    assert run.epochs == [4, 8, 10]
    assert [entry["step"] for entry in run.callback.history] == [28, 56, 70]


def test_a_resume_makes_up_for_an_evaluation_that_was_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Fixture(monkeypatch, "model.eval_every_n_epochs=4")
    for epoch, position, history in [(4, 0, [4]), (4, 8, []), (3, 0, []), (0, 0, [])]:
        run.callback.history = []
        run.trainer.global_step = 7 * epoch
        run.trainer.datamodule.position = SimpleNamespace(epoch=epoch, position=position)
        run.callback.on_train_start(run.trainer, Probe())
        assert run.epochs == history
    run.callback.history = [{"step": 28, "epoch": 4}]
    run.trainer.global_step = 28
    run.trainer.datamodule.position = SimpleNamespace(epoch=4, position=0)
    run.callback.on_train_start(run.trainer, Probe())
    assert run.epochs == [4]  # done before: not again


@pytest.mark.parametrize(
    ("metric", "scores", "stops_after"),
    [
        ("all/cophenetic", [0.1, 0.3, 0.2, 0.25, 0.9], 4),
        ("all/cophenetic", [0.1, 0.3, 0.2, 0.4, 0.3, 0.4], 6),  # equal is no improvement
        ("heldout/distortion", [0.9, 0.5, 0.6, 0.55, 0.1], 4),  # lower is better
        ("all/cophenetic", [0.1, float("nan"), float("nan"), 0.9], 3),
    ],
)
def test_stops_when_the_metric_no_longer_improves(
    metric: str, scores: list[float], stops_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = ("enabled=true", "patience=2", f"metric={metric}")
    run = Fixture(monkeypatch, "model.eval_every_n_epochs=1",
                  *(f"training.early_stopping.{setting}" for setting in early))  # fmt: skip
    run.scores = list(scores)
    for number in range(1, len(scores) + 1):
        run.end_epochs(1)
        assert run.trainer.should_stop == (number >= stops_after), number
        if run.trainer.should_stop:
            break


def test_early_stopping_counts_on_after_a_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    early = ("enabled=true", "patience=2", "metric=all/ndcg@10")
    settings = [f"training.early_stopping.{setting}" for setting in early]
    settings.append("model.eval_every_n_epochs=1")
    first = Fixture(monkeypatch, *settings)
    first.scores = [0.5, 0.4]
    first.end_epochs(2)
    assert not first.trainer.should_stop
    second = Fixture(monkeypatch, *settings)
    second.callback.load_state_dict(first.callback.state_dict())
    second.scores = [0.45]
    second.end_epochs(1)
    assert second.trainer.should_stop


def test_the_best_weights_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    early = ("enabled=true", "patience=2", "metric=heldout/ndcg@10")
    settings = [f"training.early_stopping.{setting}" for setting in early]
    settings.append("model.eval_every_n_epochs=1")
    run = Fixture(monkeypatch, *settings)
    run.scores = [0.1, 0.3]
    run.end_epochs(2)
    assert run.callback.restore_best(run.module) is None  # they are the newest
    run.scores = [0.2]
    run.end_epochs(1)
    resumed = Fixture(monkeypatch, *settings)
    resumed.callback.load_state_dict(run.callback.state_dict())
    for again in (run, resumed):
        assert again.callback.restore_best(again.module) == 14
        assert again.module.weight.item() == 14


def test_without_early_stopping_the_last_weights_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Fixture(monkeypatch, "model.eval_every_n_epochs=1")
    run.scores = [0.9, 0.2]
    run.end_epochs(2)
    assert run.callback.restore_best(run.module) is None
    assert run.module.weight.item() == 14


def test_what_is_scored_are_the_held_out_codes_given(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Fixture(monkeypatch, "model.eval_every_n_epochs=1")
    seen: list[Any] = []

    def score(module: NaicsModule, heldout: Any) -> EvaluationReport:
        seen.append((module, heldout.tolist()))
        return EvaluationReport(all=dict.fromkeys(NAMES, 0.1), heldout={}, health={"x": True})

    monkeypatch.setattr(evaluation, "evaluate_module", score)
    run.end_epochs(1)
    assert seen == [(run.module, [0, 1])]
    assert run.callback.history[0]["health/x"] == 1.0
    assert not any(name.startswith("heldout/") for name in run.callback.history[0])
