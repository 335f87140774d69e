import os
from collections import Counter
from pathlib import Path

import pytest

from naics_job.errors import DataError
from naics_job.taxonomy.codes import (
    bundled_titles,
    clean_title,
    level_of,
    parent_of,
    sector_of,
)


@pytest.mark.parametrize(
    ("code", "sector", "level", "parent"),
    [
        ("11", "11", 2, None),
        ("31-33", "31-33", 2, None),
        ("311", "31-33", 3, "31-33"),
        ("321", "31-33", 3, "31-33"),
        ("452", "44-45", 3, "44-45"),
        ("4911", "48-49", 4, "491"),
        ("111110", "11", 6, "11111"),
    ],
)
def test_sector_level_and_parent(code: str, sector: str, level: int, parent: str | None) -> None:
    assert (sector_of(code), level_of(code), parent_of(code)) == (sector, level, parent)


@pytest.mark.parametrize("code", ["", "1", "1111111", "31-34", "11a", " 11", "11\n"])
def test_malformed_codes_are_refused(code: str) -> None:
    for function in (sector_of, level_of, parent_of):
        with pytest.raises(DataError, match="is not a NAICS code"):
            function(code)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Crop ProductionT", "Crop Production"),
        ("Crop Production T ", "Crop Production"),
        ("Oilseed (except Soybean) FarmingT", "Oilseed (except Soybean) Farming"),
        ("Livestock (except Poultry)T", "Livestock (except Poultry)"),
        (" Crude  Petroleum Extraction\u00a0", "Crude Petroleum Extraction"),
        ("Model T", "Model"),  # a lone T is a footnote in these files
        ("Trade in TNT", "Trade in TNT"),
    ],
)
def test_titles_lose_footnotes_and_spaces(raw: str, clean: str) -> None:
    assert clean_title(raw) == clean


def test_bundled_table_is_complete() -> None:
    rows = bundled_titles()
    codes = [code for code, _ in rows]
    assert Counter(level_of(code) for code in codes) == {2: 20, 3: 96, 4: 308, 5: 689, 6: 1012}
    assert len(set(codes)) == 2125
    assert all(parent_of(code) in {None, *codes} for code in codes)
    assert all(title and title == clean_title(title) for _, title in rows)


def test_bundled_table_equals_the_census_workbook() -> None:
    folder = os.environ.get("NAICS_CENSUS_DIR")
    if not folder:
        pytest.skip("set NAICS_CENSUS_DIR to the folder of the Census workbooks")
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.load_workbook(Path(folder) / "2-6 digit_2022_Codes.xlsx", read_only=True)
    rows = [row for row in book.worksheets[0].iter_rows(min_row=2, values_only=True) if row[1]]
    book.close()
    assert [(str(row[1]), clean_title(row[2])) for row in rows] == bundled_titles()
