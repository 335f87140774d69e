"""--ckpt-path: which checkpoint a run starts from, and when it must not start at all."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from naics_job.checkpoint.manifest import CheckpointFacts, Finished, RunManifest
from naics_job.checkpoint.payload import load_payload, save_payload
from naics_job.checkpoint.resume import resolve
from naics_job.checkpoint.store import RunStore
from naics_job.errors import CheckpointError, TransientError
from naics_job.storage import files

Facts = Callable[..., CheckpointFacts]


def save(store: RunStore, tmp_path: Path, facts: Facts, *steps: int) -> None:
    local = tmp_path / "scratch.ckpt"
    for step in steps:
        save_payload({"step": step, "w": torch.full((2,), float(step))}, local)
        store.save(local, facts(step))


def tree(root: str) -> dict[str, bytes]:
    names = [
        (run, name) for run in files.list_dir(root) for name in files.list_dir(f"{root}/{run}")
    ]
    return {f"{run}/{name}": files.read_bytes(files.join(root, run, name)) for run, name in names}


def test_last_is_the_newest_that_verifies(
    root: str, tmp_path: Path, facts: Facts, run_manifest: Callable[..., RunManifest]
) -> None:
    store = RunStore(root, "run-a", 3)
    store.start_run(run_manifest("run-a"))
    save(store, tmp_path, facts, 10, 20, 30)
    url = files.join(root, "run-a", "step-00000030.ckpt")
    files.write_bytes_atomic(url, files.read_bytes(url)[:-1])
    plan = resolve("last", root, tmp_path / "cache")
    assert (plan.kind, plan.run_id, plan.finished) == ("resume", "run-a", None)
    assert plan.manifest is not None
    assert plan.manifest.step == 20
    assert plan.run == run_manifest("run-a")
    assert len(plan.skipped) == 1
    assert "step-00000030.ckpt is truncated" in plan.skipped[0]
    assert plan.local_file is not None
    assert load_payload(plan.local_file, plan.manifest)["step"] == 20
    assert pickle.loads(pickle.dumps(plan)) == plan  # rank 0 sends it to the others


@pytest.mark.parametrize("ckpt_path", ["last", "auto"])
def test_a_finished_run_is_said_to_be_finished(
    root: str, tmp_path: Path, facts: Facts, ckpt_path: str
) -> None:
    store = RunStore(root, "run-a", 3)
    save(store, tmp_path, facts, 100)
    store.mark_finished(Finished(step=100, limits={"max_epochs": 10}))
    plan = resolve(ckpt_path, root, tmp_path / "cache")
    assert plan.kind == "resume"
    assert plan.finished == Finished(step=100, limits={"max_epochs": 10})


def test_last_without_checkpoints_is_an_error_and_auto_starts_fresh(
    root: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint in") as caught:
        resolve("last", root, tmp_path)
    assert "--ckpt-path auto" in caught.value.hint
    first, second = (resolve("auto", root, tmp_path) for _ in range(2))
    assert first.kind == "fresh"
    assert first.run_id != second.run_id


@pytest.mark.parametrize("ckpt_path", ["last", "auto"])
@pytest.mark.parametrize("part", ["object", "manifest", "all-but-pointer"])
def test_never_fresh_beside_broken_checkpoints(
    root: str, tmp_path: Path, facts: Facts, ckpt_path: str, part: str
) -> None:
    save(RunStore(root, "run-a", 3), tmp_path, facts, 10, 20)
    for step in (10, 20):
        url = files.join(root, "run-a", f"step-{step:08d}.ckpt")
        if part == "object":
            files.write_bytes_atomic(url, b"damaged")
        else:
            files.write_bytes_atomic(url + ".manifest.json", b"{")
        if part == "all-but-pointer":
            files.remove(url)
            files.remove(url + ".manifest.json")
    with pytest.raises(CheckpointError, match="none of the checkpoints") as caught:
        resolve(ckpt_path, root, tmp_path / "cache")
    assert "step-00000020" in caught.value.args[0]
    assert "leave out --ckpt-path" in caught.value.hint


@pytest.mark.parametrize("ckpt_path", ["last", "auto"])
def test_an_outage_is_not_answered_by_an_older_checkpoint(
    root: str, tmp_path: Path, facts: Facts, monkeypatch: pytest.MonkeyPatch, ckpt_path: str
) -> None:
    save(RunStore(root, "run-a", 3), tmp_path, facts, 10, 20)
    real = files.sha256_of

    def down(url: str | Path) -> str:
        if "step-00000020" in str(url):
            raise TransientError("connection reset")
        return real(url)

    monkeypatch.setattr(files, "sha256_of", down)
    with pytest.raises(TransientError):
        resolve(ckpt_path, root, tmp_path / "cache")


def test_nothing_given_is_a_new_run_that_leaves_the_old_alone(
    root: str, tmp_path: Path, facts: Facts
) -> None:
    save(RunStore(root, "run-a", 2), tmp_path, facts, 10, 20)
    before = tree(root)
    plan = resolve(None, root, tmp_path / "cache")
    assert (plan.kind, plan.manifest, plan.local_file) == ("fresh", None, None)
    save(RunStore(root, plan.run_id, 2), tmp_path, facts, 10, 20, 30)
    assert {k: v for k, v in tree(root).items() if k.startswith("run-a/")} == before


def test_a_file_is_a_warm_start_of_a_new_run(root: str, tmp_path: Path, facts: Facts) -> None:
    save(RunStore(root, "run-a", 3), tmp_path, facts, 10)
    url = files.join(root, "run-a", "step-00000010.ckpt")
    plan = resolve(url, "memory://elsewhere", tmp_path / "cache")
    assert plan.kind == "warm_start"
    assert plan.run_id != "run-a"
    assert plan.manifest is not None
    assert plan.local_file is not None
    assert load_payload(plan.local_file, plan.manifest)["step"] == 10
    bare = tmp_path / "copied.ckpt"
    bare.write_bytes(files.read_bytes(url))
    plan = resolve(str(bare), root, tmp_path / "cache")
    assert (plan.kind, plan.manifest, plan.local_file) == ("warm_start", None, bare)


def test_what_cannot_be_a_warm_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file") as caught:
        resolve(str(tmp_path / "best"), str(tmp_path), tmp_path)
    assert "last, auto" in caught.value.hint
    with pytest.raises(CheckpointError, match="is a folder"):
        resolve(str(tmp_path), str(tmp_path), tmp_path)
    wrong = tmp_path / "table.parquet"
    wrong.write_bytes(b"PAR1")
    plan = resolve(str(wrong), str(tmp_path), tmp_path)
    assert plan.local_file is not None
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_payload(plan.local_file, plan.manifest)
