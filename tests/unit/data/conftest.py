"""Small invented workbooks in the shape of the Census ones, and settings that read them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook

from naics_job.config.load import load_config
from naics_job.config.schema import Config
from naics_job.data.preprocess import read_source
from naics_job.data.sentences import split_sentences
from naics_job.taxonomy.tree import Taxonomy

Sheet = tuple[str, list[list[Any]]]  # name, rows with the header first

TITLES = [
    (11, "Growing ThingsT"),
    (111, "Plants T"),
    (1111, "Field PlantsT"),
    (11111, "Blue Plants"),
    (111110, "Blue Plants "),
    (11112, "Red  Plants"),
    (111120, "Red Plants\u00a0"),
    (1112, "Water Plants"),
    (11121, "Water Plants"),
    (111210, "Water Plants"),
    ("31-33", "Making Things"),
    (321, "Wood Things"),
    (3211, "Planks"),
    (32111, "Planks"),
    (321113, "Long Planks"),
    (321114, "Short Planks"),
]
OWN = "This industry is about {0}. It has U.S. and other firms."
DESCRIPTIONS = {
    11: "The Sector as a Whole\r\n\r\nThe sector grows things.\n\nExcluded from this sector are "
    "planks. These are classified in Subsector 321, Wood Things; and see Industry 111110.\n",
    111: "NULL",  # two children: nobody's text is taken
    1111: OWN.format("fields"),
    11111: "See industry description for 111110.",
    111110: OWN.format("blue") + "\r\n\r\nIllustrative Examples:\r\n\r\nNot used, has an index\r\n",
    11112: OWN.format("red") + "\n\nIllustrative Examples:\n\nRed rose growing \nRed tulip growing"
    "\n\nCross-References. Establishments primarily engaged in--",
    111120: OWN.format("six red") + "\n\nCross-references. Establishments engaged in--",
    1112: "NULL",
    11121: "See industry description for 111210.",
    111210: OWN.format("water"),
    "31-33": "Making is <b>wide</b>.<dl><dt>One;</dt><dt>Two.</dt></dl>",
    321: "Nothing is excluded from this subsector but words, of which no code is named.",
    3211: "NULL",
    32111: "See industry description for 321113.",
    321113: OWN.format("long"),
    321114: OWN.format("short"),
}
INDEX = [
    (111110, "Blue flax  growing"),
    (111110, "Blue bell growing"),
    ("******", "Colours -- see specific colour"),
    (321113, "Boards, long"),
]
CROSS_REFERENCES = [
    (111110, "Growing red ones is classified in Industry 111120, Red Plants; and"),
    (111110, "Growing 111 of them, or 1999, is in U.S. Industry 321113, Long Planks."),
    (111110, "A second mention of Industry 111120 and of Industry 111110 itself."),
]


def default_sheets() -> dict[str, Sheet]:
    """The four workbooks as sheet name and rows; tests change them before writing."""
    codes: list[list[Any]] = [["Seq. No.", "2022 NAICS US   Code", "2022 NAICS US Title", None]]
    codes += [[None] * 4, *([row, code, title, None] for row, (code, title) in enumerate(TITLES))]
    texts = [[code, "T", text] for code, text in DESCRIPTIONS.items()]
    return {
        "codes": ("tbl", codes),
        "descriptions": ("Descriptions", [["Code", "Title", "Description"], *texts]),
        "index": ("2022NAICS", [["NAICS22", "INDEX ITEM DESCRIPTION"], *map(list, INDEX)]),
        "cross_references": ("X", [["Code", "Cross-Reference"], *map(list, CROSS_REFERENCES)]),
    }


@pytest.fixture
def sheets() -> dict[str, Sheet]:
    return default_sheets()


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., Config]:
    """Settings with all data below tmp_path/data, changed by KEY=VALUE arguments."""

    def make(*overrides: str) -> Config:
        return load_config(None, None, [f"dirs.data_dir={tmp_path}/data", *overrides]).config

    return make


@pytest.fixture
def census_config(
    tmp_path: Path, make_config: Callable[..., Config]
) -> Callable[[dict[str, Sheet]], Config]:
    """Write the given workbooks and return settings that read them."""

    def write(sheets: dict[str, Sheet], *overrides: str) -> Config:
        folder = tmp_path / "census"
        folder.mkdir(exist_ok=True)
        config = make_config("data.source=census", f"data.census_url={folder}", *overrides)
        for key, (name, rows) in sheets.items():
            book = Workbook(write_only=True)
            sheet = book.create_sheet(name)
            for row in rows:
                sheet.append(row)
            book.save(folder / str(getattr(config.data.workbooks, key)))
        return config

    return write


@pytest.fixture(scope="session")
def census_texts() -> tuple[Taxonomy, dict[str, list[list[str]]]]:
    """The taxonomy and the channels of the real workbooks, in the order of positions."""
    folder = os.environ.get("NAICS_CENSUS_DIR")
    if not folder:
        pytest.skip("set NAICS_CENSUS_DIR to the folder of the Census workbooks")
    overrides = ["data.source=census", f"data.census_url={folder}"]
    rows = read_source(load_config(None, None, overrides).config.data)[1]
    taxonomy = Taxonomy.from_codes([row.code for row in rows], [row.title for row in rows])
    row_of = {row.code: row for row in rows}
    rows = [row_of[code] for code in taxonomy.codes]
    return taxonomy, {
        "title": [[row.title] for row in rows],
        "description": [split_sentences(row.description) for row in rows],
        "examples": [row.examples for row in rows],
        "excluded": [row.excluded for row in rows],
    }
