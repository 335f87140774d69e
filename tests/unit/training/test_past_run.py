"""Reading back what a run logged."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from naics_job.config.load import load_config
from naics_job.config.schema import Config
from naics_job.errors import DataError
from naics_job.training.past_run import PhaseBand, open_past_run, read_series


@pytest.fixture
def config(tmp_path: Path) -> Config:
    folders = [f"dirs.log_dir={tmp_path}/logs", f"dirs.output_dir={tmp_path}/out"]
    return load_config(overrides=[*folders, "experiment_name=x"]).config


def log(tmp_path: Path, run_id: str, *rows: dict[str, Any]) -> Path:
    file = tmp_path / "logs" / "x" / run_id / "metrics.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def record(tmp_path: Path, **fields: Any) -> None:
    (tmp_path / "out" / "x").mkdir(parents=True)
    (tmp_path / "out" / "x" / "run_record.json").write_text(json.dumps(fields))


def test_nothing_logged(config: Config) -> None:
    with pytest.raises(DataError, match="no run has logged") as caught:
        open_past_run(config)
    assert "train first" in caught.value.hint


def test_the_newest_run_or_the_one_of_the_record(config: Config, tmp_path: Path) -> None:
    log(tmp_path, "20260101-b", {"step": 1, "a": 1.0})
    log(tmp_path, "20260102-a", {"step": 1, "a": 2.0})
    (tmp_path / "logs" / "x" / "20260103-empty").mkdir()
    newest = open_past_run(config)
    assert (newest.run_id, newest.record) == ("20260102-a", {})
    record(tmp_path, run_id="20260101-b", baseline={"all": {"map": 0.5}})
    named = open_past_run(config)
    assert named.run_id == "20260101-b"
    assert named.baseline == {"all": {"map": 0.5}}


def test_a_record_of_a_run_without_log_is_not_mixed_in(config: Config, tmp_path: Path) -> None:
    log(tmp_path, "20260101-b", {"step": 1, "a": 1.0})
    record(tmp_path, run_id="gone", baseline={"all": {"map": 0.5}})
    assert open_past_run(config).baseline == {}


def test_series_of_a_resumed_run(tmp_path: Path) -> None:
    rows = [{"step": 1, "a": 1.0}, {"step": 2, "a": 5.0}, {"step": 2, "a": 2.0, "b": None}]
    series = read_series(str(log(tmp_path, "r", *rows)))
    assert series["a"].steps.tolist() == [1, 2]
    assert series["a"].values.tolist() == [1.0, 2.0]
    assert np.isnan(series["b"].values).all()


def test_a_half_written_last_line_is_left_out_but_damage_is_told(tmp_path: Path) -> None:
    file = log(tmp_path, "r", {"step": 1, "a": 1.0})
    file.write_text(file.read_text() + '{"step": 2, "a"')
    assert read_series(str(file))["a"].steps.tolist() == [1]
    file.write_text("nonsense\n" + file.read_text())
    with pytest.raises(DataError, match="line 1"):
        read_series(str(file))


def test_bands_are_logged_or_recorded(config: Config, tmp_path: Path) -> None:
    phases = [1, 1, 2, 3, 3, 2]
    rows = [{"step": 10 * n, "curriculum/phase": phase} for n, phase in enumerate(phases)]
    log(tmp_path, "r", *rows)
    expected = [PhaseBand(1, 0, 10), PhaseBand(2, 20, 20), PhaseBand(3, 30, 40)]
    assert open_past_run(config).bands == [*expected, PhaseBand(2, 50, 50)]
    record(tmp_path, run_id="r", phases=[{"phase": 1, "first_step": 0, "last_step": 14}])
    assert open_past_run(config).bands == [PhaseBand(1, 0, 14)]


def test_a_broken_record_is_a_data_error(config: Config, tmp_path: Path) -> None:
    log(tmp_path, "r", {"step": 1, "a": 1.0})
    record(tmp_path)
    with pytest.raises(DataError, match="not a run record"):
        open_past_run(config)
    (tmp_path / "out" / "x" / "run_record.json").write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        open_past_run(config)
