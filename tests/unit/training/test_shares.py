"""When shares are measured, that this changes nothing, and which idle ones are named."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from tiny_bert import TINY

from naics_job.config.load import load_config
from naics_job.training import shares
from naics_job.training.build import build_inputs, build_job
from naics_job.training.callbacks import idle
from naics_job.training.callbacks.curriculum import CurriculumCallback
from naics_job.training.callbacks.idle import IdleMechanismsCallback
from naics_job.training.module import NaicsModule
from naics_job.training.shares import is_measured
from naics_job.training.trainer import make_trainer


@pytest.mark.parametrize(
    ("logged", "measured"),
    [
        (1, [1, 51, 101]),
        (10, [10, 60, 110]),
        (50, [50, 100]),
        (30, [30, 90]),
        (70, [70]),
        (0, []),
    ],
)
def test_measured_are_logged_steps_at_least_fifty_apart(logged: int, measured: list[int]) -> None:
    trainer: Any = SimpleNamespace(log_every_n_steps=logged)
    assert [step for step in range(1, 120) if is_measured(trainer, step)] == measured


class Seen(pl.Callback):
    """Shares by step."""

    def __init__(self) -> None:
        self.by_step: dict[int, dict[str, float]] = {}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        self.by_step[trainer.global_step] = dict(pl_module.shares)


def fit(tiny: Path, folder: Path, *overrides: str) -> tuple[NaicsModule, Seen]:
    own = [f"dirs.{name}_dir={folder / name}" for name in ("data", "log", "output", "checkpoint")]
    base = f"model.base_model_name={tiny}"
    config = load_config(None, "smoke", [base, *own, *TINY, *overrides]).config
    job = build_job(config, build_inputs(config))
    seen = Seen()
    trainer = make_trainer(config, logger=False, callbacks=[CurriculumCallback(), seen])
    trainer.fit(job.module, datamodule=job.datamodule)
    return job.module, seen


def test_measuring_changes_nothing_and_sees_what_acts(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "EVERY_STEPS", 1)
    measured, seen = fit(tiny_folder, tmp_path)
    plain, nothing = fit(tiny_folder, tmp_path, "training.trainer.log_every_n_steps=1000")
    assert not any(nothing.by_step.values())
    assert all(seen.by_step.values())
    for name, value in plain.state_dict().items():
        assert torch.equal(value, measured.state_dict()[name]), name
    first, *_, last = seen.by_step.values()
    assert "train/mechanism/structure_weights" in first
    assert "train/mechanism/mining" not in first
    assert {"train/mechanism/mining", "train/mechanism/false_negatives"} <= set(last)
    for row in seen.by_step.values():
        terms = [share for name, share in row.items() if name.startswith(shares.TERM)]
        assert sum(terms) == pytest.approx(1.0)


ONE, TWO = "train/share/radius", "train/mechanism/router"


def train(callback: IdleMechanismsCallback, monkeypatch: Any, *rows: dict[str, float]) -> None:
    monkeypatch.setattr(idle, "naics_module", lambda module: module)
    for row in rows:
        module: Any = SimpleNamespace(shares=row)
        callback.on_train_batch_end(None, module, None, None, 0)  # type: ignore[arg-type]
    callback.on_train_end(None, None)  # type: ignore[arg-type]


def named(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    found = [record for record in caplog.records if record.message == "training.idle_mechanism"]
    assert all(record.levelno == logging.WARNING for record in found)
    return [record.fields for record in found]  # type: ignore[attr-defined]


def test_what_never_had_a_share_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    train(IdleMechanismsCallback(), monkeypatch, {ONE: 0.5, TWO: 0.002}, {}, {ONE: 0.001})
    assert named(caplog) == [{"mechanism": "router", "largest_share": 0.002}]
    caplog.clear()
    train(IdleMechanismsCallback(), monkeypatch, {ONE: 0.0, TWO: 0.01})
    assert named(caplog) == [{"term": "radius", "largest_share": 0.0}]


def test_a_resume_remembers_what_had_a_share(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before, after = IdleMechanismsCallback(), IdleMechanismsCallback()
    train(before, monkeypatch, {ONE: 0.5, TWO: 0.5})
    after.load_state_dict(before.state_dict())
    train(after, monkeypatch, {ONE: 0.0, TWO: 0.0})
    assert named(caplog) == []


def test_a_finished_run_is_not_told_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    callback = IdleMechanismsCallback()
    callback.load_state_dict({"largest": {ONE: 0.0}})
    train(callback, monkeypatch)
    assert named(caplog) == []
