from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from naics_job.data.contracts import DISTANCES, TRIPLETS, TableContract, read_table, write_table
from naics_job.data.relations import code_column
from naics_job.errors import DataError
from naics_job.storage.files import manifest_url, read_manifest
from naics_job.taxonomy.tree import Taxonomy

TINY = Taxonomy.from_codes(["11", "111"], ["a", "b"])


def table() -> pa.Table:
    first, second = TINY.positions(["11"]), TINY.positions(["111"])
    columns = {
        "a": pa.array([0], pa.int32()),
        "b": pa.array([1], pa.int32()),
        "code_a": code_column(TINY, first),
        "code_b": code_column(TINY, second),
        "distance": pa.array([1], pa.int8()),
        "excluded": pa.array([False]),
    }
    return pa.table(columns, schema=DISTANCES.schema)


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = str(tmp_path / "distances.parquet")
    write_table(url, table(), DISTANCES, source="census", inputs={"x": "1"}, config_hash="c")
    return url


def test_round_trip_and_manifest(url: str) -> None:
    assert read_table(url, DISTANCES).equals(table())
    manifest = read_manifest(url)
    assert manifest is not None
    assert (manifest.file, manifest.rows, manifest.source) == ("distances.parquet", 1, "census")
    assert (manifest.inputs, manifest.config_hash) == ({"x": "1"}, "c")


@pytest.mark.parametrize("damage", ["flip", "cut", "other"])
def test_changed_content_is_found(url: str, damage: str) -> None:
    path = Path(url)
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(
        {
            "flip": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
            "cut": data[:-10],
            "other": b"hello",
        }[damage]
    )
    with pytest.raises(DataError, match=r"distances.parquet is damaged") as error:
        read_table(url, DISTANCES)
    assert error.value.exit_code == 65
    assert "naics-embedder data all --force" in error.value.hint


def test_missing_file_and_missing_manifest(url: str) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_table(url + "x", DISTANCES)
    Path(manifest_url(url)).unlink()
    with pytest.raises(DataError, match="has no manifest"):
        read_table(url, DISTANCES)


def test_other_versions_and_columns_are_named(url: str) -> None:
    newer = TableContract("distances", 2, DISTANCES.schema)
    with pytest.raises(DataError, match=r"has version 1 .* reads version 2"):
        read_table(url, newer)
    with pytest.raises(DataError, match=r"anchor is missing instead of int32.*a is unknown"):
        read_table(url, TRIPLETS)


def test_a_file_that_matches_its_manifest_but_is_no_parquet(url: str, tmp_path: Path) -> None:
    import hashlib
    import json

    Path(url).write_bytes(b"PAR1 not really")
    manifest = json.loads(Path(manifest_url(url)).read_text())
    manifest["sha256"] = hashlib.sha256(b"PAR1 not really").hexdigest()
    Path(manifest_url(url)).write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="is not a readable Parquet file"):
        read_table(url, DISTANCES)


def test_a_crash_between_file_and_manifest_leaves_no_manifest(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("naics_job.storage.files.write_manifest", crash)
    with pytest.raises(KeyboardInterrupt):
        write_table(url, table(), DISTANCES, source="s", inputs={}, config_hash="")
    assert pq.read_table(url).num_rows == 1
    assert read_manifest(url) is None
