"""Our parse of the real workbooks against an independent one, and the known facts about them.

Needs NAICS_CENSUS_DIR (folder of the four workbooks) and NAICS_ORACLE_PARQUET (the other parse).
Where the two differ on purpose:

- Fourteen four-digit codes with several children have no text of their own. The other parse takes
  the first child's text; ours leaves the description empty, as one child does not speak for all.
- Four cells end in "Cross-references. ..." with a small r. The other parse keeps that heading in
  the description; ours drops it like the other 1,091.
- One sector's cell holds an HTML table. The other parse joins its entries without a space.
- Merged sectors are 31, 44 and 48 there; 31-33, 44-45 and 48-49 here.
"""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from naics_job.config.load import load_config
from naics_job.data.channels import CodeText
from naics_job.data.distances import exclusion_lists
from naics_job.data.preprocess import read_source
from naics_job.taxonomy.codes import MERGED_SECTORS, level_of
from naics_job.taxonomy.tree import Taxonomy

NO_OWN_TEXT = {
    *("2111", "3231", "3241", "4561", "4931", "5192", "7121"),
    *("9211", "9221", "9231", "9241", "9251", "9261", "9281"),
}
HEADING_IN_SMALL_LETTERS = {"325194", "331313", "331523", "331529"}


@pytest.fixture(scope="module")
def rows() -> dict[str, CodeText]:
    folder = os.environ.get("NAICS_CENSUS_DIR")
    if not folder:
        pytest.skip("set NAICS_CENSUS_DIR to the folder of the Census workbooks")
    overrides = ["data.source=census", f"data.census_url={folder}"]
    source, rows, _ = read_source(load_config(None, None, overrides).config.data)
    assert source == "census"
    return {row.code: row for row in rows}


@pytest.fixture(scope="module")
def oracle() -> dict[str, dict[str, Any]]:
    path = os.environ.get("NAICS_ORACLE_PARQUET")
    if not path:
        pytest.skip("set NAICS_ORACLE_PARQUET to the independent parse of the workbooks")
    return {merged(row["code"]): row for row in pq.read_table(Path(path)).to_pylist()}


def merged(code: str) -> str:
    return MERGED_SECTORS.get(code, code)


def joined_items(row: CodeText) -> set[str]:
    """All items of a code as one text, with the held-out one at each place it may have had."""
    kept = row.examples
    places = range(len(kept) + 1) if row.queries else range(1)
    return {"; ".join([*kept[:place], *row.queries, *kept[place:]]) for place in places}


def test_titles_levels_and_parents_agree(
    rows: dict[str, CodeText], oracle: dict[str, dict[str, Any]]
) -> None:
    taxonomy = Taxonomy.from_codes(list(rows), [row.title for row in rows.values()])
    assert set(rows) == set(oracle)
    for position, code in enumerate(taxonomy.codes):
        above = oracle[code]["parent"]
        parent = taxonomy.parent[position]
        assert taxonomy.titles[position] == oracle[code]["title"]
        assert taxonomy.level[position] == oracle[code]["level"]
        assert (taxonomy.codes[parent] if parent >= 0 else None) == (above and merged(above))


def test_descriptions_agree(rows: dict[str, CodeText], oracle: dict[str, dict[str, Any]]) -> None:
    differing = {c for c, row in rows.items() if row.description != oracle[c]["description"]}
    assert differing == NO_OWN_TEXT | HEADING_IN_SMALL_LETTERS | {"31-33"}
    for code in HEADING_IN_SMALL_LETTERS:
        theirs = str(oracle[code]["description"])
        assert theirs.partition(" Cross-references.")[0] == rows[code].description
    ours = rows["31-33"].description.replace(" ", "")
    assert ours == str(oracle["31-33"]["description"]).replace(" ", "")
    assert not any(rows[code].description for code in NO_OWN_TEXT)
    kinds = {"own": "own", "see_6digit": "pointer", "only_child": "only_child"}
    for code, row in rows.items():
        assert row.description_source == kinds.get(oracle[code]["description_how"], "missing")


def test_examples_and_exclusions_agree(
    rows: dict[str, CodeText], oracle: dict[str, dict[str, Any]]
) -> None:
    for code, row in rows.items():
        theirs = oracle[code]
        assert (theirs["examples"] or "") in joined_items(row)
        assert " ".join(row.excluded) == (theirs["excluded"] or "")
        named = {merged(other) for other in theirs["excluded_codes"] or []}
        assert set(row.excluded_codes) == named
        assert len(row.excluded_codes) == len(named)


def test_known_facts(rows: dict[str, CodeText]) -> None:
    assert Counter(level_of(code) for code in rows) == {2: 20, 3: 96, 4: 308, 5: 689, 6: 1012}
    sources = Counter(row.description_source for row in rows.values())
    assert sources == {"own": 1449, "pointer": 522, "only_child": 140, "missing": 14}
    with_examples = Counter(level_of(code) for code, row in rows.items() if row.examples)
    assert with_examples == {6: 1010, 5: 65}
    assert sum(len(row.examples) for row in rows.values()) == 20816 - 909
    assert Counter(len(row.queries) for row in rows.values()) == {0: 1216, 1: 909}
    read = {item for row in rows.values() for item in (row.title, *row.examples)}
    assert not any(query in read for row in rows.values() for query in row.queries)
    assert not rows["112130"].examples
    assert not rows["541120"].examples
    assert sum(bool(row.excluded) for row in rows.values()) == 1117
    assert sum(len(row.excluded_codes) for row in rows.values()) == 4586


def test_lineal_references_are_no_exclusions(rows: dict[str, CodeText]) -> None:
    taxonomy = Taxonomy.from_codes(list(rows), [row.title for row in rows.values()])
    offsets, others = exclusion_lists(
        taxonomy, [rows[code].excluded_codes for code in taxonomy.codes]
    )
    assert len(others) == 4586 - 9
    anchors = np.repeat(np.arange(len(taxonomy)), np.diff(offsets))
    for anchor, other in zip(anchors[::50], others[::50], strict=True):
        assert not taxonomy.is_lineal(np.array([anchor]), np.array([other]))[0, 0]
