"""Finding cached features by what they were made of, and codes made of them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from naics_job.cli.frozen_features import code_directions, newest_features
from naics_job.errors import DataError
from naics_job.model.features import FrozenFeatures, _write
from naics_job.storage.files import read_manifest, write_manifest
from naics_job.storage.node_cache import NodeCache

SHA = "a" * 64
Write = Callable[..., str]


def features_of(num_codes: int, value: float = 1.0) -> FrozenFeatures:
    """Each code has one index item and no exclusion; title, description and item are the axes."""
    axes = value * torch.eye(4)[:3, None].repeat(1, num_codes, 1)
    none = torch.zeros(0, 4), torch.zeros(num_codes + 1, dtype=torch.int64)
    starts = torch.arange(num_codes + 1)
    own = {"labelled": torch.zeros(0, 4), "labelled_code": torch.zeros(0, dtype=torch.int64)}
    return FrozenFeatures(axes[0], axes[1], axes[2], starts, *none, query=torch.zeros(0, 4), **own)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Save features of `num_codes` codes as a run does."""

    def save(value: float, name: str = "f", num_codes: int = 3, base: str = SHA) -> str:
        url = f"{tmp_path}/{name}.safetensors"
        _write(url, features_of(num_codes, value), {"tokens": "t", "base": base}, name)
        return url

    return save


def find(folder: Path, num_codes: int = 3, base: str = SHA) -> FrozenFeatures | None:
    return newest_features(str(folder), base, num_codes, NodeCache(folder / "cache", 10**9))


def test_the_newest_that_fits(write: Write, tmp_path: Path) -> None:
    assert find(tmp_path / "nothing") is None
    write(1.0, "a")
    write(2.0, "z")
    newest = write(3.0, "b")
    write(4.0, "c", num_codes=4)
    write(5.0, "d", base="b" * 64)
    past = write(6.0, "e")  # of another layout
    manifest = read_manifest(past)
    assert manifest is not None
    write_manifest(past, replace(manifest, schema_version=manifest.schema_version - 1))
    found = find(tmp_path)
    assert found is not None
    assert float(found.title.max()) == 3.0
    Path(newest).unlink()
    Path(f"{newest}.manifest.json").unlink()
    older = find(tmp_path)
    assert older is not None
    assert float(older.title.max()) == 2.0


def test_a_damaged_file_is_told(write: Write, tmp_path: Path) -> None:
    path = Path(write(1.0))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match="is damaged: its sha256"):
        find(tmp_path)


def test_a_code_is_the_mean_of_what_its_texts_say() -> None:
    expected = torch.tensor([1.0, 1.0, 1.0, 0.0]) / 3**0.5
    torch.testing.assert_close(code_directions(features_of(2)), expected.repeat(2, 1))
