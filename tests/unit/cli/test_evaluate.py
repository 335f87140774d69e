"""The options of `evaluate --texts`."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from naics_job.cli.app import app
from naics_job.evaluation.text_report import TextReport

SYSTEMS = {"search": {"top1": 0.75, "mrr": 0.8}, "tfidf": {"top1": 0.5, "mrr": 0.6}}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was to be measured."""
    found: list[Any] = []
    module: Any = ModuleType("naics_job.training.evaluate_texts")

    def measured(loaded: Any, ckpt_path: str, url: str) -> TextReport:
        found.append((loaded.config.experiment_name, ckpt_path, url))
        return TextReport(4, url, SYSTEMS)

    module.evaluate_on_texts = measured
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return found


def test_the_table_and_the_report(asked: list[Any], tmp_path: Path) -> None:
    report = tmp_path / "report"
    ended = CliRunner().invoke(
        app,
        ["evaluate", "--texts", "mine.csv", "--report", str(report), "experiment_name=mine"],
    )
    assert ended.exit_code == 0, ended.stderr
    assert asked == [("mine", "last", "mine.csv")]
    assert "| search | **0.750** | **0.800** |" in ended.stdout
    assert (report / "texts.md").read_text() == ended.stdout
    assert json.loads((report / "texts.json").read_text())["systems"] == SYSTEMS


def test_a_report_needs_texts(asked: list[Any]) -> None:
    ended = CliRunner().invoke(app, ["evaluate", "--report", "folder"])
    assert ended.exit_code == 2
    assert "--texts" in ended.stderr
    assert not asked
