"""Finding cached features by what they were made of."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from naics_job.config.load import load_config
from naics_job.errors import DataError
from naics_job.model.feature_lookup import cached_features
from naics_job.model.features import FrozenFeatures, _write, features_digest
from naics_job.storage.node_cache import NodeCache

SHA = "a" * 64
CONFIG = load_config(overrides=["data_loader.tokenization.frozen_views=1"]).config
OTHER = load_config(overrides=["data_loader.tokenization.frozen_views=2"]).config


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Save features of `num_codes` codes as a run does."""

    def save(value: float, tokens: str = "t", num_codes: int = 3, base: str = SHA) -> str:
        digest = features_digest(tokens, base, CONFIG.data_loader.tokenization, False)
        url = f"{tmp_path}/{digest}.safetensors"
        present = torch.ones(num_codes, 4, dtype=torch.bool)
        none = torch.zeros(0, 5), torch.zeros(0, num_codes, 4, dtype=torch.int32)
        no_query = torch.zeros(0, 5), torch.zeros(num_codes + 1, dtype=torch.int64)
        features = FrozenFeatures(torch.full((num_codes, 4, 5), value), present, *none, *no_query)
        _write(url, features, {"tokens": tokens, "base": base}, digest)
        return url

    return save


def find(folder: Path, num_codes: int = 3, base: str = SHA) -> FrozenFeatures | None:
    cache = NodeCache(folder / "cache", 10**9)
    return cached_features(str(folder), num_codes, base, CONFIG.data_loader.tokenization, cache)


def test_the_newest_that_fits(write: Callable[..., str], tmp_path: Path) -> None:
    assert find(tmp_path) is None
    write(1.0)
    write(2.0, tokens="u")
    write(3.0, tokens="v", num_codes=4)
    write(4.0, base="b" * 64)
    found = find(tmp_path)
    assert found is not None
    assert float(found.base.mean()) == 2.0
    cache = NodeCache(tmp_path / "cache", 10**9)
    other = OTHER.data_loader.tokenization
    assert cached_features(str(tmp_path), 3, SHA, other, cache) is None


def test_a_damaged_file_is_told(write: Callable[..., str], tmp_path: Path) -> None:
    path = Path(write(1.0))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match="is damaged: its sha256"):
        find(tmp_path)
