"""`tools gpu --apply`: what is written, and what is said when something else wins."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from naics_job.cli.tools import app
from naics_job.config.load import load_config
from naics_job.training import gpu
from naics_job.training.gpu import Advice


@pytest.fixture
def advised(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Any, ...]]:
    """Arguments of `advise`, which always suggests 24 x 3."""
    calls: list[tuple[Any, ...]] = []

    def advise(*arguments: Any) -> Advice:
        calls.append(arguments)
        return Advice("the table", 24, 3, None)

    monkeypatch.setattr(gpu, "advise", advise)
    monkeypatch.chdir(tmp_path)
    return calls


def test_apply_writes_the_settings(advised: list[tuple[Any, ...]], tmp_path: Path) -> None:
    options = ["--gpu-memory", "16", "--target-effective-batch", "72", "--apply", "seed=7"]
    result = CliRunner().invoke(app, ["gpu", "--auto", *options])
    assert result.exit_code == 0
    assert advised[0][0].seed == 7
    assert advised[0][1:] == (True, 16.0, 72)
    assert result.stdout.splitlines() == ["the table", "written to conf/config.yaml"]
    config = load_config(tmp_path / "conf" / "config.yaml").config
    assert config.data_loader.batch_size == 24
    assert config.training.accumulate_grad_batches == 3


@pytest.mark.usefixtures("advised")
def test_a_profile_that_wins_over_the_file_is_told() -> None:
    result = CliRunner().invoke(app, ["gpu", "--apply", "--profile", "smoke"])
    assert "data_loader.batch_size is set by the profile as well" in result.stdout


@pytest.mark.usefixtures("advised")
def test_without_apply_nothing_is_written(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["gpu", "--auto"])
    assert result.stdout == "the table\n"
    assert not (tmp_path / "conf").exists()
