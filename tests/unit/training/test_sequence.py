"""Stages of `train-seq`: lengths, settings, and what each starts from."""

from typing import Any

import pytest

from naics_job.config.load import LoadedConfig, load_config
from naics_job.config.schema import Config
from naics_job.curriculum.schedule import Phase
from naics_job.errors import ConfigError
from naics_job.training import sequence
from naics_job.training.record import RunRecord
from naics_job.training.run import RunOptions
from naics_job.training.sequence import run_sequence, stage_config, stage_epochs


def config(*overrides: str) -> Config:
    return load_config(None, "smoke", list(overrides)).config


@pytest.mark.parametrize(
    ("overrides", "epochs"),
    [
        (["training.trainer.max_epochs=10"], [4, 4, 2]),
        (["training.trainer.max_epochs=1"], [1, 1, 1]),
        (["training.trainer.max_epochs=10", "curriculum.phase2_end=0.4"], [4, None, 6]),
        (["training.trainer.max_epochs=10", "curriculum.phase_mode=two_phase"], [4, 6, None]),
    ],
)
def test_epochs_follow_the_borders(overrides: list[str], epochs: list[int | None]) -> None:
    wanted = {phase: count for phase, count in zip(Phase, epochs, strict=True) if count}
    assert stage_epochs(config(*overrides)) == wanted


def test_a_stage_is_an_experiment_of_its_own() -> None:
    whole = config("curriculum.fn_curriculum_start_epoch=5")
    stage = stage_config(whole, Phase.MITIGATION, 2)
    assert stage.experiment_name == "smoke-stage3"
    assert stage.training.max_epochs == 2
    assert stage.curriculum.fn_curriculum_start_epoch == 0
    assert stage.training.trainer["devices"] == whole.training.trainer["devices"]
    assert whole.training.max_epochs == 3  # the settings of the whole are as they were


def test_each_stage_starts_from_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[LoadedConfig, RunOptions]] = []

    def run(loaded: LoadedConfig, options: RunOptions) -> RunRecord:
        seen.append((loaded, options))
        record = RunRecord(run_id=str(len(seen)), config_hash=loaded.hash)
        record.checkpoint = f"{loaded.config.experiment_name}.ckpt"
        return record

    monkeypatch.setattr(sequence, "run_training", run)
    records = run_sequence(load_config(None, "smoke", []), RunOptions("first.ckpt", True))
    assert [options.ckpt_path for _, options in seen] == [
        "first.ckpt",
        "smoke-stage1.ckpt",
        "smoke-stage2.ckpt",
    ]
    assert [options.only_phase for _, options in seen] == list(Phase)
    assert all(options.skip_validation for _, options in seen)
    assert len({record.config_hash for record in records}) == 3


def test_an_interrupted_stage_ends_the_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any) -> RunRecord:
        raise KeyboardInterrupt

    monkeypatch.setattr(sequence, "run_training", run)
    with pytest.raises(KeyboardInterrupt):
        run_sequence(load_config(None, "smoke", []), RunOptions())


def test_a_length_in_steps_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_steps=9"):
        stage_epochs(config("training.trainer.max_steps=9"))
