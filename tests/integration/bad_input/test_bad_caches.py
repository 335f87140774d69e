"""Damaged tables, tokens, features and exports: found before use, never half repaired."""

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.integration

Command = Callable[..., Any]


@pytest.mark.parametrize("table", ["descriptions", "relations", "distances", "triplets"])
def test_a_corrupt_table(after_a_run: Any, command: Command, table: str) -> None:
    file = f"data/naics_{table}.parquet"
    after_a_run.flip_bit(file)
    before = after_a_run.contents("data", "checkpoints", "outputs")
    command("train").refuses(65, file, "naics-embedder data all --force")
    assert after_a_run.record["status"] == "failed"
    assert after_a_run.record["exit_code"] == 65
    assert after_a_run.contents("data", "checkpoints", "outputs") == before
    assert command("data", "all", "--force").code == 0
    assert command("data", "all").out.count("up to date") == 4


def test_a_truncated_table_without_its_manifest(after_a_run: Any, command: Command) -> None:
    """Nothing says what the file should be: it is built again."""
    after_a_run.truncate("data/naics_descriptions.parquet")
    after_a_run.find("data/naics_descriptions.parquet.manifest.json").unlink()
    command("data", "relations").refuses(65, "naics_descriptions.parquet", "data all")
    ended = command("data", "preprocess")
    assert ended.code == 0
    assert "60 rows from bundled, built" in ended.out


def test_a_damaged_manifest(after_a_run: Any, command: Command) -> None:
    file = after_a_run.truncate("data/naics_relations.parquet.manifest.json").name
    command("train").refuses(65, file, "--force")
    assert command("data", "all", "--force").code == 0


@pytest.mark.parametrize("file", ["shard-00000.safetensors", "manifest.json"])
def test_a_corrupt_token_cache(after_a_run: Any, command: Command, file: str) -> None:
    path = after_a_run.truncate(f"data/tokens/*/{file}")
    before = after_a_run.contents("data", "checkpoints", "outputs")
    command("train").refuses(65, path.name, "delete the folder data/tokens")
    assert after_a_run.record["exit_code"] == 65
    assert after_a_run.contents("data", "checkpoints", "outputs") == before


def test_corrupt_features_are_announced_and_made_again(after_a_run: Any, command: Command) -> None:
    good = after_a_run.contents("data/features")
    file = after_a_run.flip_bit("data/features/*.safetensors")
    ended = command("evaluate")
    assert ended.code == 0
    assert "features.rebuilt" in ended.err
    assert after_a_run.contents("data/features")[f"data/features/{file.name}"] in good.values()


@pytest.mark.parametrize("file", ["embeddings.parquet", "items.parquet", "model/encoder.onnx"])
def test_a_corrupt_export(after_a_run: Any, command: Command, file: str) -> None:
    assert command("search", "Corn Farming", "-k", "3").out.count("\n") == 5
    after_a_run.flip_bit(f"outputs/smoke/{file}")
    command("search", "Corn Farming").refuses(65, "outputs/smoke", "--ckpt-path last")
    assert command("train", "--ckpt-path", "last").code == 0  # trains nothing, exports again
    assert command("search", "Corn Farming", "-k", "3").code == 0


def test_an_export_of_another_version(after_a_run: Any, command: Command) -> None:
    path = after_a_run.find("outputs/smoke/naics.json")
    path.write_text(path.read_text().replace('"version": 1', '"version": 0'))
    command("search", "Corn Farming").refuses(65, "outputs/smoke", "version 0")
