from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from naics_job.config.schema import Config
from naics_job.data.contracts import CHANNELS
from naics_job.data.prepare import load_dataset, prepare_all
from naics_job.data.relations import build_relations
from naics_job.errors import DataError

Sheets = dict[str, tuple[str, list[list[Any]]]]
Make = Callable[..., Config]
SLICE = ("data.source=bundled", "data.max_codes=60")


def test_everything_is_built_once(make_config: Make) -> None:
    config = make_config(*SLICE)
    first = prepare_all(config)
    assert [result.rebuilt for result in first] == [True] * 4
    assert all(result.seconds > 0 and result.rows > 0 for result in first)
    before = {path: path.stat().st_mtime_ns for path in Path(config.dirs.data_dir).iterdir()}
    assert [result.rebuilt for result in prepare_all(config)] == [False] * 4
    after = {path: path.stat().st_mtime_ns for path in Path(config.dirs.data_dir).iterdir()}
    assert before == after
    assert [result.rebuilt for result in prepare_all(config, force=True)] == [True] * 4


def test_what_depends_on_a_changed_table_is_rebuilt(make_config: Make) -> None:
    prepare_all(make_config(*SLICE))
    assert [r.rebuilt for r in prepare_all(make_config(SLICE[0], "data.max_codes=90"))] == [
        True
    ] * 4


def test_dataset_of_the_bundled_source(make_config: Make) -> None:
    config = make_config(*SLICE)
    prepare_all(config)
    data = load_dataset(config)
    count = len(data.taxonomy)
    assert data.source == "bundled"
    assert len(data.digest) == 64
    assert tuple(data.texts) == CHANNELS
    assert all(len(texts) == count for texts in data.texts.values())
    assert data.texts["title"][0] == ["Agriculture, Forestry, Fishing and Hunting"]
    assert len(data.texts["description"][0]) == 2  # sentences
    assert [] in data.texts["examples"]
    assert data.exclusions[0].tolist() == [0] * (count + 1)
    assert data.triplets.offsets[-1] == len(data.triplets.positive)
    assert data.queries == []


def test_dataset_of_workbooks(sheets: Sheets, census_config: Make) -> None:
    config = census_config(sheets)
    prepare_all(config)
    data = load_dataset(config)
    taxonomy = data.taxonomy
    row = taxonomy.position("111110")
    offsets, others = data.exclusions
    assert [taxonomy.codes[p] for p in others[offsets[row] : offsets[row + 1]]] == [
        "111120",
        "321113",
    ]  # 111 is an ancestor
    assert data.texts["description"][taxonomy.position("111")] == []
    assert data.texts["description"][row] == [
        "This industry is about blue.",
        "It has U.S. and other firms.",
    ]
    assert np.diff(data.triplets.offsets).min() > 0


def test_held_out_index_items_are_queries_and_no_texts(sheets: Sheets, census_config: Make) -> None:
    items = [f"Boards, kind {kind}" for kind in "abcd"]
    sheets["index"][1].extend([321114, item] for item in items)
    config = census_config(sheets)
    prepare_all(config)
    data = load_dataset(config)
    row = data.taxonomy.position("321114")
    ((position, query),) = data.queries
    assert position == row
    assert query in items
    assert data.texts["examples"][row] == [item for item in items if item != query]


@pytest.mark.parametrize("name", ["descriptions", "relations", "distances", "triplets"])
def test_damaged_tables_are_found_and_force_repairs_them(name: str, make_config: Make) -> None:
    config = make_config(*SLICE)
    prepare_all(config)
    path = Path(getattr(config.data_loader.streaming, name))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=f"{path.name} is damaged") as error:
        prepare_all(config)
    assert "data all --force" in error.value.hint
    if name in ("descriptions", "triplets"):
        with pytest.raises(DataError, match=f"{path.name} is damaged"):
            load_dataset(config)
    prepare_all(config, force=True)
    load_dataset(config)


def test_a_removed_table_is_made_again(make_config: Make) -> None:
    config = make_config(*SLICE)
    prepare_all(config)
    Path(config.data_loader.streaming.triplets).unlink()
    with pytest.raises(DataError):
        load_dataset(config)
    assert [result.rebuilt for result in prepare_all(config)] == [False, False, False, True]


def test_later_steps_ask_for_the_first_and_for_its_settings(make_config: Make) -> None:
    with pytest.raises(DataError, match="no table of descriptions") as error:
        build_relations(make_config(*SLICE))
    assert "naics-embedder data all" in error.value.hint
    prepare_all(make_config(*SLICE))
    other = make_config(SLICE[0], "data.max_codes=90")
    for use in (build_relations, load_dataset):
        with pytest.raises(DataError, match="with other data settings"):
            use(other)


def test_tables_of_two_builds_are_not_mixed(sheets: Sheets, census_config: Make) -> None:
    config = census_config(sheets)
    prepare_all(config)
    triplets = Path(config.data_loader.streaming.triplets)
    old = {path: path.read_bytes() for path in triplets.parent.glob("*triplets*")}
    sheets["index"][1].append([321114, "Short boards"])
    config = census_config(sheets)
    prepare_all(config)
    for path, content in old.items():
        path.write_bytes(content)
    with pytest.raises(DataError, match="another table of descriptions"):
        load_dataset(config)
