"""`evaluate` with other inputs than those of the run: refused, nothing of the run is touched."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.integration

Command = Callable[..., Any]
NEWEST = "checkpoints/smoke/*/step-*7.ckpt"
DESCRIPTIONS = "data/naics_descriptions.parquet"


@pytest.mark.parametrize("start", ["last", "file", "bare"])
def test_another_split(after_a_run: Any, command: Command, start: str) -> None:
    before = after_a_run.contents()
    path = "last" if start == "last" else str(after_a_run.find(NEWEST))
    if start == "bare":
        path = shutil.copy(path, after_a_run.root.parent / "own.ckpt")
    for setting in ("seed=7", "data_loader.val_split=0.2", "data_loader.test_split=0.3"):
        ended = command("evaluate", "--ckpt-path", path, setting)
        ended.refuses(
            78, "heldout_digest", "seed, data_loader.val_split and data_loader.test_split"
        )
    assert after_a_run.contents() == before
    assert command("evaluate", "--ckpt-path", path).code == 0


def test_a_batch_size_that_would_not_divide_the_run_s_does_not_matter(
    after_a_run: Any, command: Command
) -> None:
    assert command("evaluate", "data_loader.batch_size=5").code == 0


def test_missing_tables_are_not_built(after_a_run: Any, command: Command) -> None:
    (after_a_run.root / DESCRIPTIONS).unlink()
    before = after_a_run.contents()
    command("evaluate").refuses(65, DESCRIPTIONS, "naics-embedder data all")
    assert after_a_run.contents() == before


def test_tables_of_other_settings_are_not_replaced(after_a_run: Any, command: Command) -> None:
    before = after_a_run.contents()
    command("evaluate", "data.max_codes=40").refuses(65, DESCRIPTIONS, "other data settings")
    assert after_a_run.contents() == before


def test_other_data(after_a_run: Any, command: Command) -> None:
    other = ("data.max_codes=40", "dirs.data_dir=other")
    assert command("data", "all", *other).code == 0
    before = after_a_run.contents()
    command("evaluate", *other).refuses(78, "data_digest", "dirs.data_dir", "config-*.yaml")
    assert after_a_run.contents() == before


def test_other_base_weights(after_a_run: Any, command: Command, tiny_folder: Path) -> None:
    other = shutil.copytree(tiny_folder, after_a_run.root.parent / "other-bert")
    tensors = load_file(other / "model.safetensors")
    changed = {name: tensor + 0.01 for name, tensor in tensors.items()}
    save_file(changed, other / "model.safetensors", {"format": "pt"})
    before = after_a_run.contents("checkpoints", "outputs")
    ended = command("evaluate", f"model.base_model_name={other}")
    ended.refuses(78, "base_model_sha256", "model.base_model_name")
    assert after_a_run.contents("checkpoints", "outputs") == before
