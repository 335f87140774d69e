"""Reading the workbooks: what is accepted, and a clear error for everything that is wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook

from naics_job.config.schema import Config
from naics_job.data.census import fetch_workbooks, read_tables, workbook_urls
from naics_job.data.preprocess import build_preprocess
from naics_job.errors import DataError, TransientError

Sheets = dict[str, tuple[str, list[list[Any]]]]
Write = Callable[..., Config]


def test_tables_of_good_workbooks(sheets: Sheets, census_config: Write, tmp_path: Path) -> None:
    tables = read_tables(fetch_workbooks(census_config(sheets).data, tmp_path, attempts=1))
    assert tables.titles["11"] == "Growing Things"
    assert tables.titles["111120"] == "Red Plants"
    assert list(tables.titles)[-6:] == ["31-33", "321", "3211", "32111", "321113", "321114"]
    assert tables.index == {
        "111110": ["Blue flax growing", "Blue bell growing"],
        "321113": ["Boards, long"],
    }
    assert len(tables.cross_references["111110"]) == 3


def test_codes_may_be_saved_as_decimals_and_sheets_may_be_in_any_order(
    sheets: Sheets, census_config: Write, tmp_path: Path
) -> None:
    name, rows = sheets["codes"]
    for row in rows[2:]:
        row[1] = float(row[1]) if isinstance(row[1], int) else row[1]
    config = census_config(sheets)
    path = tmp_path / "census" / config.data.workbooks.codes
    book = Workbook()
    book.active.append(["Read me first"])
    second = book.create_sheet(name)
    for row in rows:
        second.append(row)
    book.save(path)
    tables = read_tables(fetch_workbooks(config.data, tmp_path, attempts=1))
    assert list(tables.titles)[:3] == ["11", "111", "1111"]


def drop_row(sheets: Sheets, key: str, code: object, column: int) -> None:
    rows = sheets[key][1]
    rows[:] = [row for row in rows if row[column] != code]


def append(key: str, row: list[Any]) -> Callable[[Sheets], None]:
    return lambda sheets: sheets[key][1].append(row)


BROKEN: dict[str, tuple[Callable[[Sheets], None], str]] = {
    "duplicate code": (append("codes", [9, 321113, "Again", None]), r"row 19: code 321113 occurs"),
    "missing parent": (lambda s: drop_row(s, "codes", 3211, 1), "32111 has no parent: 3211 is mis"),
    "malformed code": (
        append("codes", [9, "32x", "Odd", None]),
        r"sheet tbl, row 19: '32x' is not",
    ),
    "no title": (append("codes", [9, 322, None, None]), "row 19: code 322 has no title"),
    "no description row": (lambda s: drop_row(s, "descriptions", 111120, 0), "111120 of the code"),
    "second description": (append("descriptions", [11, "", "x"]), "row 18: code 11 occurs twice"),
    "stray description": (append("descriptions", [99, "", "x"]), "row 18: code '99' is not in"),
    "stray index item": (append("index", [999999, "x"]), "row 6: code '999999' is not in"),
    "stray reference": (append("cross_references", [999999, "x"]), "code '999999' is not in"),
    "empty sheet": (lambda s: s["index"][1].clear(), "no sheet has the columns"),
    "header only": (
        lambda s: s["index"][1].__delitem__(slice(1, None)),
        "no rows below the header",
    ),
    "wrong columns": (
        lambda s: s["codes"][1][0].__setitem__(1, "Code"),
        "no sheet has the columns",
    ),
    "wrong workbook": (
        lambda s: s.__setitem__("cross_references", s["index"]),
        "Cross_References.xlsx: no sheet has the columns",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_contradictions_name_file_sheet_and_row(
    case: str, sheets: Sheets, census_config: Write
) -> None:
    breaks, message = BROKEN[case]
    breaks(sheets)
    config = census_config(sheets)
    with pytest.raises(DataError, match=message) as error:
        build_preprocess(config)
    assert ".xlsx" in str(error.value.args[0])
    assert error.value.hint
    assert not Path(config.data_loader.streaming.descriptions).exists()


@pytest.mark.parametrize("source", ["census", "auto"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(path.read_bytes()[:3000]), "cannot be read as a workbook"),
        (lambda path: path.write_text("<html>Sign in</html>"), "is not an Excel workbook"),
        (lambda path: path.write_bytes(flipped(path.read_bytes())), "cannot be read as a workbook"),
    ],
    ids=["missing", "empty", "truncated", "web page", "flipped"],
)
def test_damaged_files_are_refused_and_never_replaced(
    source: str,
    damage: Callable[[Path], object],
    message: str,
    sheets: Sheets,
    census_config: Write,
    tmp_path: Path,
) -> None:
    config = census_config(sheets, f"data.source={source}")
    damage(tmp_path / "census" / config.data.workbooks.descriptions)
    with pytest.raises(DataError, match=message) as error:
        build_preprocess(config)
    assert "2022_NAICS_Descriptions.xlsx" in str(error.value.args[0])
    assert error.value.exit_code == 65


def flipped(data: bytes) -> bytes:
    """Zero some bytes in the middle of the sheet's compressed data."""
    begin = data.index(b"xl/worksheets/sheet1.xml") + 200
    return data[:begin] + bytes(40) + data[begin + 40 :]


def test_spaces_are_escaped_for_web_addresses_only(make_config: Callable[..., Config]) -> None:
    web = workbook_urls(make_config("data.census_url=https://example.org/naics").data)
    assert web["codes"] == "https://example.org/naics/2-6%20digit_2022_Codes.xlsx"
    folder = workbook_urls(make_config("data.census_url=/census").data)
    assert folder["codes"] == "/census/2-6 digit_2022_Codes.xlsx"


UNREACHABLE = ("data.census_url=http://127.0.0.1:1/naics", "data.census_timeout_s=2")


def test_unreachable_host_is_transient_for_source_census(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("naics_job.storage.retry.time.sleep", pauses.append)
    monkeypatch.setattr("naics_job.data.census.ATTEMPTS", 2)
    with pytest.raises(TransientError) as error:
        build_preprocess(make_config("data.source=census", *UNREACHABLE))
    assert error.value.exit_code == 75


def test_auto_falls_back_to_the_bundled_table_and_says_so(
    make_config: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config("data.source=auto", *UNREACHABLE)
    result = build_preprocess(config)
    assert (result.source, result.rows) == ("bundled", 2125)
    warning = next(r for r in caplog.records if r.message == "data.census_unreachable")
    assert warning.levelname == "WARNING"
    caplog.clear()
    assert not build_preprocess(config).rebuilt  # asks nobody, but says what it works with
    assert [r.message for r in caplog.records if r.levelname == "WARNING"] == [
        "data.source_is_bundled"
    ]
