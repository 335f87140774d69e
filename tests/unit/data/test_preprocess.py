from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from naics_job.config.schema import Config
from naics_job.data.contracts import DESCRIPTIONS, read_table
from naics_job.data.preprocess import build_preprocess, cut_slice, read_source
from naics_job.errors import ConfigError, DataError
from naics_job.storage.files import read_manifest
from naics_job.taxonomy.codes import level_of, parent_of, sector_of

Sheets = dict[str, tuple[str, list[list[Any]]]]
Write = Callable[..., Config]


def codes_of(config: Config) -> list[str]:
    table = read_table(config.data_loader.streaming.descriptions, DESCRIPTIONS)
    return [str(code) for code in table["code"].to_pylist()]


@pytest.mark.parametrize("max_codes", [30, 60, 61, 100, 615, 2125, 5000])
def test_a_slice_is_a_tree_of_whole_branches(
    max_codes: int, make_config: Callable[..., Config]
) -> None:
    _, rows, _ = read_source(make_config("data.source=bundled").data)
    kept = [row.code for row in cut_slice(rows, (), max_codes)]
    assert min(max_codes, 2125) * 0.9 - 5 <= len(kept) <= max_codes
    assert len(kept) == 2125 or max_codes < 5000
    assert all(parent_of(code) in {None, *kept} for code in kept)
    parents = {parent_of(code) for code in kept}
    leaves = [code for code in kept if code not in parents]
    assert {level_of(code) for code in leaves} == {6}
    assert len({sector_of(code) for code in kept}) == min(20, max_codes // 30)


def test_sectors_restrict_the_taxonomy_and_the_exclusions(
    sheets: Sheets, census_config: Write
) -> None:
    config = census_config(sheets, 'data.sectors=["33"]')  # any prefix of a merged sector
    build_preprocess(config)
    assert codes_of(config) == ["31-33", "321", "3211", "32111", "321113", "321114"]
    config = census_config(sheets, 'data.sectors=["11"]')
    assert build_preprocess(config).rebuilt  # other settings
    table = read_table(config.data_loader.streaming.descriptions, DESCRIPTIONS)
    rows = {row["code"]: row for row in table.to_pylist()}
    assert rows["111110"]["excluded_codes"] == ["111", "111120"]  # 321113 is outside
    manifest = read_manifest(config.data_loader.streaming.descriptions)
    assert manifest is not None
    assert manifest.extra["sectors"] == ["11"]


def test_unknown_sector_names_the_known_ones(make_config: Callable[..., Config]) -> None:
    with pytest.raises(ConfigError, match=r"\['99'\] are no sectors") as error:
        build_preprocess(make_config("data.source=bundled", 'data.sectors=["11", "99"]'))
    assert "31-33" in error.value.hint


def test_unchanged_workbooks_mean_no_work(sheets: Sheets, census_config: Write) -> None:
    config = census_config(sheets)
    first = build_preprocess(config)
    assert (first.rebuilt, first.rows, first.source) == (True, 16, "census")
    assert not build_preprocess(config).rebuilt
    assert build_preprocess(config, force=True).rebuilt
    sheets["index"][1].append([321114, "Short boards"])
    assert build_preprocess(census_config(sheets)).rebuilt


def test_a_prepared_table_outlives_its_workbooks(
    sheets: Sheets, census_config: Write, caplog: pytest.LogCaptureFixture
) -> None:
    config = census_config(sheets)
    build_preprocess(config)
    folder = config.data.census_url
    for path in Path(folder).iterdir():
        path.unlink()
    assert not build_preprocess(config).rebuilt
    assert "data.workbooks_gone" in [record.message for record in caplog.records]
    with pytest.raises(DataError, match="no such file"):
        build_preprocess(config, force=True)


def test_source_decides_whether_a_table_will_do(sheets: Sheets, census_config: Write) -> None:
    census = census_config(sheets)
    auto = census_config(sheets, "data.source=auto")
    bundled = census_config(sheets, "data.source=bundled")
    assert build_preprocess(census).rebuilt
    assert not build_preprocess(auto).rebuilt  # auto would have chosen the Census as well
    assert build_preprocess(bundled).source == "bundled"
    assert build_preprocess(auto).source == "census"  # bundled was asked for, not fallen back to
    assert build_preprocess(bundled).rebuilt
    assert not build_preprocess(bundled).rebuilt
