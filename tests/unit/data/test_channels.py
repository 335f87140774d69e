from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from naics_job.config.schema import Config
from naics_job.data.census import fetch_workbooks, read_tables
from naics_job.data.channels import CodeText, census_channels, named_codes
from naics_job.errors import DataError

Sheets = dict[str, tuple[str, list[list[Any]]]]
Write = Callable[..., Config]


def channels(sheets: Sheets, census_config: Write, folder: Path) -> dict[str, CodeText]:
    tables = read_tables(fetch_workbooks(census_config(sheets).data, folder, attempts=1))
    return {row.code: row for row in census_channels(tables)}


@pytest.fixture
def rows(sheets: Sheets, census_config: Write, tmp_path: Path) -> dict[str, CodeText]:
    return channels(sheets, census_config, tmp_path)


@pytest.mark.parametrize(
    ("code", "source", "text"),
    [
        ("11", "own", "The sector grows things."),
        ("111", "missing", ""),
        ("11111", "pointer", "This NAICS industry is about blue. It has U.S. and other firms."),
        ("111110", "own", "This industry is about blue. It has U.S. and other firms."),
        ("11112", "own", "This industry is about red. It has U.S. and other firms."),
        ("1112", "only_child", "This industry group is about water. It has U.S. and other firms."),
        ("3211", "only_child", "This industry group is about long. It has U.S. and other firms."),
        ("31-33", "own", "Making is wide . One; Two."),
    ],
)
def test_descriptions_and_where_they_come_from(
    rows: dict[str, CodeText], code: str, source: str, text: str
) -> None:
    assert (rows[code].description_source, rows[code].description) == (source, text)


def test_headings_of_other_channels_end_the_prose(rows: dict[str, CodeText]) -> None:
    assert rows["11112"].examples == ["Red rose growing", "Red tulip growing"]
    assert rows["111120"].description.endswith("other firms.")  # "Cross-references." as well
    assert rows["111110"].examples == ["Blue flax growing", "Blue bell growing"]  # index first
    assert rows["111210"].examples == []


def test_exclusions_come_from_references_or_the_code_s_own_text(
    rows: dict[str, CodeText],
) -> None:
    assert rows["11"].excluded == [
        "Excluded from this sector are planks.",
        "These are classified in Subsector 321, Wood Things; and see Industry 111110.",
    ]
    assert rows["11"].excluded_codes == ["111110", "321"]
    # the code itself drops out, years are no codes; the words stay as they are, once
    assert rows["111110"].excluded_codes == ["111", "111120", "321113"]
    assert len(rows["111110"].excluded) == 3
    # a paragraph that names no code stays in the description
    assert rows["321"].excluded == []
    assert "Nothing is excluded" in rows["321"].description


def test_only_known_numbers_count_as_codes() -> None:
    known = dict.fromkeys(["11", "311", "31-33", "2022"], "")
    text = "Sector 31-33, Subsector 311; in 2022-2023, 3.11, 1,311, $311 and 11-12; 311 again"
    assert named_codes(text, known) == ["31-33", "311"]


@pytest.mark.parametrize("target", ["999999", "11111"])
def test_pointers_to_nowhere_are_refused(
    target: str, sheets: Sheets, census_config: Write, tmp_path: Path
) -> None:
    for row in sheets["descriptions"][1]:
        if row[0] == 11111:
            row[2] = f"See industry description for {target}."
    with pytest.raises(DataError, match=r"code 11111 points at \d+, which leads nowhere"):
        channels(sheets, census_config, tmp_path)
