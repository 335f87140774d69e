"""Sizes of batches and epochs, worked out before anything is built."""

from typing import Any

import pytest

from naics_job.checkpoint.manifest import RunManifest
from naics_job.config.load import load_config
from naics_job.config.schema import Config
from naics_job.errors import ConfigError
from naics_job.training import build
from naics_job.training.build import global_batch_size


def config(*overrides: str) -> Config:
    return load_config(None, "smoke", ["data_loader.batch_size=6", *overrides]).config


def started(size: int) -> RunManifest:
    values: Any = {"run_id": "r", "config_hash": "", "borders": {}, "total_steps": 1}
    digests: Any = {"base_model_sha256": "", "data_digest": "", "created_at": ""}
    return RunManifest(global_batch_size=size, **values, **digests)


def test_parts_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert global_batch_size(config(), None) == 6
    assert global_batch_size(config("training.trainer.accumulate_grad_batches=3"), None) == 18
    assert global_batch_size(config("data_loader.global_batch_size=48"), None) == 48
    monkeypatch.setattr(build, "world_size", lambda: 4)
    assert global_batch_size(config(), None) == 24


def test_a_resume_keeps_the_size_of_the_first_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "world_size", lambda: 2)
    assert global_batch_size(config("data_loader.global_batch_size=48"), started(32)) == 32


def test_a_size_that_cannot_be_cut_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "world_size", lambda: 4)
    with pytest.raises(ConfigError, match="10 anchors cannot be cut into 4 equal parts") as caught:
        global_batch_size(config("data_loader.global_batch_size=10"), None)
    assert caught.value.exit_code == 78
    assert "data_loader.global_batch_size" in caught.value.hint
    with pytest.raises(ConfigError, match="6 anchors"):
        global_batch_size(config(), started(6))
