"""The options of `search`, and what it prints."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from naics_job.cli.app import app
from naics_job.export import search as searches
from naics_job.export.search import Found, Hit

Invoke = Callable[..., Any]
HITS = [
    Hit("111110", "Soybean Farming", 0.75, 1.0, "Soybean farming, field"),
    Hit("111120", "Oilseed Farming", 0.125, 2.0, None),
]


class Index:
    """Answers every text with its own words."""

    def __init__(self, asked: list[Any]) -> None:
        self.asked = asked

    def search(self, *given: Any) -> Found:
        self.asked.append(given)
        return Found(HITS, "sure: 111110 .75")

    def answers(self, texts: list[str], num_results: int) -> list[Any]:
        self.asked.append((texts, num_results))
        return ["no word" if not text.strip("-") else {"rank1_code": text} for text in texts]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the index was asked; first the name of the experiment and `lexical`."""
    found: list[Any] = []

    def opened(config: Any, lexical: bool, num_threads: int) -> Index:
        assert num_threads > 0
        found.append((config.experiment_name, lexical))
        return Index(found)

    monkeypatch.setattr(searches, "open_index", opened)
    return found


def run(*arguments: str) -> SimpleNamespace:
    ended = CliRunner().invoke(app, ["search", *arguments])
    return SimpleNamespace(code=ended.exit_code, out=ended.stdout, err=ended.stderr)


def test_answers_with_probability_reason_and_how_sure(asked: list[Any]) -> None:
    ended = run("soybeans", "-k", "2", "--lexical", "experiment_name=mine")
    assert ended.code == 0, ended.err
    head, first, second, sure = ended.out.splitlines()
    assert head.split()[:3] == ["probability", "code", "title"]
    assert first == "      0.750  111110  Soybean Farming  [Soybean farming, field]"
    assert second == "      0.125  111120  Oilseed Farming"
    assert sure == "sure: 111110 .75"
    assert asked == [("mine", True), ("soybeans", 2, 6)]


def test_level_0_is_any(asked: list[Any]) -> None:
    assert run("soybeans", "--level", "0").code == 0
    assert asked[1] == ("soybeans", 5, None)


def test_a_file_is_answered(asked: list[Any], tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps({"words": text}) + "\n" for text in ("corn", "--")))
    ended = run(
        *("--input", str(source), "--output", str(target), "--text-column", "words"),
        *("-k", "1", "experiment_name=mine"),
    )
    assert ended.code == 0, ended.err
    assert ended.out == f"{target}: 2 rows, 1 with an error instead\n"
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert [row["rank1_code"] for row in rows] == ["corn", None]
    assert rows[1]["error"] == "no word"
    assert "sure_probability" in rows[0]
    assert asked == [("mine", False), (["corn", "--"], 1)]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "QUERY or --input"),
        (["corn", "--input", "in.csv", "--output", "out.csv"], "QUERY or --input"),
        (["--input", "in.csv"], "go together"),
        (["corn", "--output", "out.csv"], "go together"),
        (["corn", "--level", "1"], "2 to 6 digits"),
        (["--input", "in.csv", "--output", "out.csv", "--level", "2"], "6 digits"),
    ],
)
def test_options_that_do_not_fit(asked: list[Any], arguments: list[str], reason: str) -> None:
    ended = run(*arguments)
    assert ended.code == 2
    assert reason in " ".join(ended.err.replace("│", " ").split())
    assert not asked


def test_an_empty_query_is_refused(asked: list[Any]) -> None:
    ended = run(" ")
    assert ended.code == 65
    assert "the query is empty" in ended.err
    assert not asked


def test_files_are_checked_before_anything_is_read(asked: list[Any], tmp_path: Path) -> None:
    missing, target = str(tmp_path / "in.csv"), str(tmp_path / "out.csv")
    ended = run("--input", missing, "--output", target)
    assert ended.code == 65
    assert "does not exist" in ended.err
    assert not asked
