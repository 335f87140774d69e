"""Changing a settings file in place."""

from pathlib import Path

import pytest

from naics_job.config.edit import set_values
from naics_job.config.load import load_config, packaged_conf
from naics_job.errors import ConfigError

BATCH = "data_loader.batch_size"
ACCUMULATE = "training.trainer.accumulate_grad_batches"


def test_values_change_and_comments_stay(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    before = (packaged_conf() / "config.yaml").read_text()
    file.write_text(before)
    set_values(file, {BATCH: 777, ACCUMULATE: 3})
    after = file.read_text().splitlines()
    changed = [(a, b) for a, b in zip(before.splitlines(), after, strict=True) if a != b]
    wanted = [("batch_size: 32 ", "batch_size: 777 "), ("batches: 1 ", "batches: 3 ")]
    assert len(changed) == 2
    for (old, new), (was, now) in zip(changed, wanted, strict=True):
        assert was in old
        assert new == old.replace(was, now)
    assert load_config(file).config.data_loader.batch_size == 777


NESTED = "training:\n  trainer:\n    devices: 2\n"


@pytest.mark.parametrize("before", [None, "", "seed: 1\n", NESTED, "data_loader: # x\n"])
def test_keys_that_were_not_there_are_added(before: str | None, tmp_path: Path) -> None:
    file = tmp_path / "conf" / "config.yaml"
    if before is not None:
        file.parent.mkdir()
        file.write_text(before)
    set_values(file, {BATCH: 24, ACCUMULATE: 2})
    config = load_config(file).config
    assert config.data_loader.batch_size == 24
    assert config.training.trainer["accumulate_grad_batches"] == 2
    assert set((before or "").splitlines()) <= set(file.read_text().splitlines())


def test_a_layout_that_cannot_be_edited_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("data_loader: {batch_size: 3, num_workers: 1}\n")
    with pytest.raises(ConfigError, match="cannot be edited"):
        set_values(file, {BATCH: 24})
    assert file.read_text() == "data_loader: {batch_size: 3, num_workers: 1}\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.yaml"]


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "conf").write_text("a file where a folder should be")
    with pytest.raises(ConfigError, match="cannot be written"):
        set_values(tmp_path / "conf" / "config.yaml", {BATCH: 24})
