"""The report of labelled texts, for programs and for people."""

import json
from pathlib import Path

import fsspec
import pytest

from naics_job.evaluation.text_report import TextReport, json_text, markdown, write_report

PLACES = {"top1": 0.25, "top5": 0.5, "top10": 0.625, "mrr": 0.4}


def report() -> TextReport:
    systems = {
        "tfidf": {**PLACES, "level_2": 0.7},
        "point": {**PLACES, "top1": 0.5, "level_2": 0.69999, "calibration_error": 0.0625},
        "own": {**PLACES, "mrr": 0.1, "calibration_error": 0.25},
    }
    return TextReport(1200, "dev.csv, sha256 `ab12`", systems)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_json_holds_rows_and_systems_alone() -> None:
    content = json.loads(json_text(report()))
    assert content == {"rows": 1200, "systems": report().systems}
    assert list(content["systems"]) == ["point", "tfidf", "own"]  # always in one order
    assert list(content["systems"]["tfidf"]) == ["top1", "top5", "top10", "mrr", "level_2"]


def test_a_number_that_json_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        json_text(TextReport(1, "x", {"point": {"top1": float("nan")}}))


def test_the_table_has_a_line_for_each_system_and_the_best_in_bold() -> None:
    table = [cells(line) for line in markdown(report()).splitlines() if line.startswith("|")]
    assert table[0] == ["system", "top1", "top5", "top10", "mrr", "level_2", "calibration_error"]
    assert table[2:] == [
        ["point", "**0.500**", "**0.500**", "**0.625**", "**0.400**", "**0.700**", "**0.062**"],
        ["tfidf", "0.250", "**0.500**", "**0.625**", "**0.400**", "**0.700**", "-"],
        ["own", "0.250", "**0.500**", "**0.625**", "0.100", "-", "0.250"],
    ]


def test_the_text_says_what_was_measured() -> None:
    text = markdown(report())
    assert "1200 texts: dev.csv, sha256 `ab12`." in text
    assert "sqrt(p (1 - p) / n)" in text
    assert "at most 0.014" in text  # sqrt(0.25 / 1200)
    assert "- `tfidf`: no encoder" in text
    assert "- `point`: the trained embedding" in text
    assert "- `frozen_mean`" not in text
    assert "lower is better" in text


def test_calibration_is_not_explained_where_there_is_none() -> None:
    text = markdown(TextReport(10, "x", {"tfidf": PLACES}))
    assert "calibration" not in text


def test_files_in_a_folder_and_at_a_url(tmp_path: Path) -> None:
    write_report(str(tmp_path / "new" / "folder"), report())
    folder = tmp_path / "new" / "folder"
    assert sorted(path.name for path in folder.iterdir()) == ["texts.json", "texts.md"]
    assert (folder / "texts.json").read_text() == json_text(report())
    assert (folder / "texts.md").read_text() == markdown(report())
    write_report("memory://reports/texts", report())
    with fsspec.open("memory://reports/texts/texts.json", "rb") as file:
        assert json.load(file)["rows"] == 1200
