"""Metrics as JSON lines and as TensorBoard events."""

import json
from pathlib import Path

import pytest

from naics_job.errors import ConfigError
from naics_job.training.loggers import METRICS_FILE, JsonLinesLogger, build_loggers


def test_lines_are_json_with_the_step(tmp_path: Path) -> None:
    logger = JsonLinesLogger(tmp_path / "m.jsonl")
    logger.log_metrics({"train/total": 1 / 3, "epoch": 2.0}, step=7)
    logger.log_metrics({"a": float("nan"), "b": float("inf"), "c": -1.0}, step=8)
    rows = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert rows == [
        {"step": 7, "train/total": 1 / 3},  # exact: read back, the number is the same
        {"step": 8, "a": None, "b": None, "c": -1.0},
    ]


def test_a_second_start_appends(tmp_path: Path) -> None:
    for step in (1, 2):
        _, lines = build_loggers(str(tmp_path), "exp", "run")
        lines.log_metrics({"x": 1.0}, step=step)
    text = (tmp_path / "exp" / "run" / METRICS_FILE).read_text()
    assert [json.loads(line)["step"] for line in text.splitlines()] == [1, 2]


def test_both_logs_of_a_run_share_a_folder(tmp_path: Path) -> None:
    board, _ = build_loggers(str(tmp_path), "exp", "run")
    board.log_metrics({"train/total": 1.0}, step=1)
    board.save()
    board.finalize("success")
    names = {file.name.split(".")[0] for file in (tmp_path / "exp" / "run").iterdir()}
    assert names >= {"events", "metrics"}


def test_a_folder_below_a_file_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write metrics") as caught:
        build_loggers(str(tmp_path / "file"), "exp", "run")
    assert "dirs.log_dir" in caught.value.hint
