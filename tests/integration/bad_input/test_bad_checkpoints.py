"""Checkpoints that are cut, changed, of another model or armed, and what is used instead."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from naics_job.checkpoint.manifest import MANIFEST_SUFFIX, CheckpointManifest, decode, encode

pytestmark = pytest.mark.integration

Command = Callable[..., Any]
NEWEST = "checkpoints/smoke/*/step-*7.ckpt"
OLDER = "checkpoints/smoke/*/step-*5.ckpt"


@pytest.mark.parametrize("damage", ["truncate", "flip_bit"])
def test_the_newest_is_damaged(after_a_run: Any, command: Command, damage: str) -> None:
    """The run goes on from the one before, and says so."""
    before = after_a_run.contents("checkpoints")
    bad = getattr(after_a_run, damage)(NEWEST)
    ended = command("train", "--ckpt-path", "last")
    assert ended.code == 0
    assert f"{bad.name} is " in ended.err
    assert after_a_run.record["steps"] == 7
    assert after_a_run.record["restarts"] == 1
    older = str(after_a_run.find(OLDER).relative_to(after_a_run.root))
    assert after_a_run.contents("checkpoints")[older] == before[older]


@pytest.mark.parametrize("start", ["last", "auto"])
def test_none_is_whole(after_a_run: Any, command: Command, start: str) -> None:
    """Not even `auto` starts afresh beside checkpoints that somebody may want to mend."""
    names = [after_a_run.truncate(NEWEST).name, after_a_run.flip_bit(OLDER).name]
    before = after_a_run.contents()
    command("train", "--ckpt-path", start).refuses(74, *names, "--ckpt-path")
    command("evaluate").refuses(74, *names)
    assert after_a_run.contents() == before


@pytest.mark.parametrize("damage", ["truncate", "flip_bit"])
@pytest.mark.parametrize("has_manifest", [True, False])
def test_a_named_one_is_damaged(
    after_a_run: Any, command: Command, damage: str, has_manifest: bool
) -> None:
    bad = getattr(after_a_run, damage)(NEWEST)
    if not has_manifest:
        bad = bad.rename(after_a_run.root / "own.ckpt")
    before = after_a_run.contents()
    command("train", "--ckpt-path", str(bad)).refuses(74, bad.name)
    assert after_a_run.record["status"] == "failed"
    assert after_a_run.record["exit_code"] == 74
    assert after_a_run.contents("outputs").items() <= before.items()
    command("evaluate", "--ckpt-path", str(bad)).refuses(74, bad.name)


def test_no_checkpoint_at_all(after_a_run: Any, command: Command) -> None:
    command("train", "--ckpt-path", "outputs").refuses(74, "outputs is a folder")
    file = "outputs/smoke/embeddings.parquet"
    command("train", "--ckpt-path", file).refuses(74, file, "naics-job wrote")


@pytest.mark.parametrize("start", ["last", NEWEST])
def test_another_architecture(after_a_run: Any, command: Command, start: str) -> None:
    finished, before = after_a_run.record, after_a_run.contents("checkpoints", "outputs")
    path = "last" if start == "last" else str(after_a_run.find(start))
    ended = command("train", "--ckpt-path", path, "model.tree_dim=24")
    ended.refuses(74, "of another architecture", "model.*")
    assert after_a_run.record["status"] == "failed"
    assert after_a_run.record["exit_code"] == 74
    assert before.items() <= after_a_run.contents("checkpoints", "outputs").items()
    kept = json.loads((after_a_run.root / "outputs/smoke/finished_record.json").read_text())
    assert kept == finished  # what is known of the embeddings beside it
    command("evaluate", "--ckpt-path", path, "model.tree_dim=24").refuses(74, "architecture")


class Armed:
    """Creates a file when it is unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, int]]:
        return os.open, (str(self.path), os.O_CREAT)


@pytest.mark.parametrize("start", ["last", "file"])
def test_code_in_a_checkpoint_is_not_executed(
    after_a_run: Any, command: Command, start: str
) -> None:
    """Not even when the manifest was forged to fit."""
    fired = after_a_run.root / "fired"
    bad = after_a_run.find(NEWEST)
    payload = torch.load(bad, weights_only=True)
    torch.save({**payload, "more": Armed(fired)}, bad)
    if start == "last":
        path_of_facts = bad.with_name(bad.name + MANIFEST_SUFFIX)
        facts = decode(CheckpointManifest, path_of_facts.read_bytes(), "")
        data = bad.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        path_of_facts.write_bytes(encode(replace(facts, sha256=digest, size_bytes=len(data))))
    else:
        bad = bad.rename(after_a_run.root / "gift.ckpt")
    path = "last" if start == "last" else str(bad)
    command("train", "--ckpt-path", path).refuses(74, bad.name, "refused unexecuted")
    command("evaluate", "--ckpt-path", path).refuses(74, bad.name, "refused unexecuted")
    assert not fired.exists()
    torch.load(bad, weights_only=False)  # the trap is a real one
    assert fired.exists()


def test_a_resume_with_other_inputs(after_a_run: Any, command: Command) -> None:
    before = after_a_run.contents("checkpoints", "outputs")
    ended = command("train", "--ckpt-path", "last", "data.max_codes=40", "dirs.data_dir=other")
    ended.refuses(78, "data_digest", "--ckpt-path FILE")
    assert after_a_run.record["exit_code"] == 78
    assert before.items() <= after_a_run.contents("checkpoints", "outputs").items()
