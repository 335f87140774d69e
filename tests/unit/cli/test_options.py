"""Settings at a URL, file or folder, with a profile beside them."""

import fsspec
import pytest

from naics_job.cli.options import read_settings
from naics_job.errors import ConfigError


@pytest.fixture(autouse=True)
def logging_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("naics_job.observability.logs.setup_logging", lambda **_: None)


@pytest.fixture
def bucket() -> str:
    """A folder with settings in a remote store."""
    store = fsspec.filesystem("memory")
    store.pipe("/settings/config.yaml", b"seed: 7\nexperiment_name: far\n")
    store.pipe("/settings/profile/night.yaml", b"experiment_name: night\n")
    store.pipe("/settings/wrong.yaml", b"sed: 7\n")
    return "memory://settings"


@pytest.mark.parametrize("name", ["", "/", "/config.yaml"])
def test_settings_are_read_from_a_url(bucket: str, name: str) -> None:
    loaded = read_settings(bucket + name, None, None, verbose=False)
    assert (loaded.config.seed, loaded.config.experiment_name) == (7, "far")
    assert loaded.sources[1].endswith("settings/config.yaml")
    assert loaded.sources[1].startswith("memory://")


def test_a_profile_beside_them_comes_before_a_packaged_one(bucket: str) -> None:
    loaded = read_settings(bucket, "night", ["seed=8"], verbose=False)
    assert (loaded.config.seed, loaded.config.experiment_name) == (8, "night")
    assert loaded.sources[2] == "memory://settings/profile/night.yaml"
    assert read_settings(bucket, "smoke", None, verbose=False).provenance["seed"] == "file"


@pytest.mark.parametrize(
    ("name", "text"),
    [("/wrong.yaml", "memory://settings/wrong.yaml:1"), ("/none.yaml", "no such file")],
)
def test_wrong_settings_are_named_by_their_url(bucket: str, name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        read_settings(bucket + name, None, None, verbose=False)
