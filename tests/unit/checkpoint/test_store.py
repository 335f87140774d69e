"""RunStore: write-once saves, order, idempotence, pruning; the same on a local folder and a URL."""

import errno
import json
import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from naics_job.checkpoint.catalogue import Catalogue
from naics_job.checkpoint.manifest import (
    CheckpointFacts,
    CheckpointManifest,
    Finished,
    RunManifest,
)
from naics_job.checkpoint.store import RunStore
from naics_job.errors import CheckpointError, DataError
from naics_job.storage import files

Facts = Callable[..., CheckpointFacts]
Scratch = Callable[[bytes], Path]


@pytest.fixture
def store(root: str) -> RunStore:
    return RunStore(root, "run-a", keep_last=3)


def fill(store: RunStore, scratch: Scratch, facts: Facts, *steps: int) -> list[CheckpointManifest]:
    return [store.save(scratch(f"{store.run_id} {s}".encode()), facts(s)) for s in steps]


def damage(url: str) -> None:
    """Change one byte; a new file, as a tool or a bad disk controller would leave it."""
    data = files.read_bytes(url)
    files.remove(url)
    files.write_bytes_atomic(url, data[:-1] + bytes([data[-1] ^ 1]))


def test_a_save_writes_object_manifest_and_pointer(
    root: str, store: RunStore, scratch: Scratch, facts: Facts
) -> None:
    manifest = store.save(scratch(b"weights"), facts(100))
    assert files.read_bytes(files.join(root, "run-a", "step-00000100.ckpt")) == b"weights"
    assert (manifest.name, manifest.size_bytes, manifest.step) == ("step-00000100", 7, 100)
    assert store.manifests() == [manifest]
    assert store.newest_verified() == (manifest, [])
    pointer = json.loads(files.read_bytes(files.join(root, "LATEST.json")))
    assert pointer == {"run_id": "run-a", "file": "step-00000100.ckpt", "step": 100}


def test_the_same_save_again_changes_nothing(
    root: str, store: RunStore, scratch: Scratch, facts: Facts
) -> None:
    first = store.save(scratch(b"weights"), facts(100))
    before = files.version_of(files.join(root, first.path))
    assert store.save(scratch(b"weights"), facts(100)) == first
    assert files.version_of(files.join(root, first.path)) == before
    assert files.list_dir(files.join(root, "run-a")) == [
        "step-00000100.ckpt",
        "step-00000100.ckpt.manifest.json",
    ]


def test_a_stored_step_is_never_overwritten(
    root: str, store: RunStore, scratch: Scratch, facts: Facts
) -> None:
    first = store.save(scratch(b"weights"), facts(100))
    with pytest.raises(CheckpointError, match="other contents"):
        store.save(scratch(b"Weights"), facts(100))
    assert files.read_bytes(files.join(root, first.path)) == b"weights"


def test_a_run_that_went_back_behind_a_damaged_checkpoint_can_save_that_step_again(
    root: str, store: RunStore, scratch: Scratch, facts: Facts
) -> None:
    first, second = fill(store, scratch, facts, 100, 200)
    damage(files.join(root, second.path))
    assert store.newest_verified()[0] == first
    again = store.save(scratch(b"once more"), facts(200))
    assert again.file == "step-00000200.2.ckpt"
    assert store.newest_verified() == (again, [])
    store.verify(first)


@pytest.mark.parametrize("part", ["object-gone", "manifest-cut"])
def test_the_manifest_of_a_broken_checkpoint_is_not_overwritten(
    root: str, store: RunStore, scratch: Scratch, facts: Facts, part: str
) -> None:
    _, second = fill(store, scratch, facts, 100, 200)
    url = files.join(root, second.path)
    if part == "object-gone":
        files.remove(url)
    else:
        files.write_bytes_atomic(url + ".manifest.json", b"{")
    before = files.read_bytes(url + ".manifest.json")
    (again,) = fill(store, scratch, facts, 200)
    assert again.file == "step-00000200.2.ckpt"
    assert files.read_bytes(url + ".manifest.json") == before
    assert store.newest_verified()[0] == again


def test_an_object_without_manifest_is_no_checkpoint(
    root: str, store: RunStore, scratch: Scratch, facts: Facts
) -> None:
    (first,) = fill(store, scratch, facts, 100)
    files.write_bytes_atomic(files.join(root, "run-a", "step-00000200.ckpt"), b"stray")
    assert store.newest_verified() == (first, [])
    assert store.save(scratch(b"stray"), facts(200)).file == "step-00000200.ckpt"


def test_newest_verified_walks_back_and_reports(
    root: str, store: RunStore, scratch: Scratch, facts: Facts
) -> None:
    one, two, three = fill(store, scratch, facts, 1, 2, 3)
    other = RunStore(root, "run-b", 3)
    (four,) = fill(other, scratch, facts, 1)
    damage(files.join(root, four.path))
    files.remove(files.join(root, three.path))
    url = files.join(root, two.path + ".manifest.json")
    files.write_bytes_atomic(url, files.read_bytes(url)[:50])
    manifest, skipped = other.newest_verified()
    assert manifest == one
    assert len(skipped) == 3
    for name, reason in ((two.path, "JSON"), (three.path, "no such"), (four.path, "sha256")):
        assert any(name in text and reason in text for text in skipped), (name, skipped)


def test_a_cut_object_is_told_from_a_changed_one(
    root: str, store: RunStore, scratch: Scratch, facts: Facts
) -> None:
    (one,) = fill(store, scratch, facts, 1)
    url = files.join(root, one.path)
    files.write_bytes_atomic(url, files.read_bytes(url)[:-2])
    with pytest.raises(CheckpointError, match="truncated: 5 bytes of 7"):
        store.verify(one)


def test_time_grows_within_a_run_when_clocks_differ(
    store: RunStore, scratch: Scratch, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "naics_job.checkpoint.store.timestamp"
    clocks = iter(["2026-01-02T03:04:05.999999+00:00", "2026-01-02T03:00:00.000000+00:00"])
    monkeypatch.setattr(module, lambda: next(clocks))
    first, second = fill(store, scratch, facts, 1, 2)
    assert second.created_at == "2026-01-02T03:04:06.000000+00:00"
    assert store.manifests() == [second, first]


def test_prune_keeps_the_newest_of_its_own_run_only(
    root: str, scratch: Scratch, facts: Facts
) -> None:
    other = fill(RunStore(root, "run-b", 9), scratch, facts, 1, 2, 3, 4, 5)
    store = RunStore(root, "run-a", 3)
    own = fill(store, scratch, facts, 1, 2, 3, 4, 5)
    assert store.manifests() == [*own[:1:-1], *other[::-1]]
    for manifest in (*own[2:], *other):
        store.verify(manifest)
    assert len(files.list_dir(files.join(root, "run-a"))) == 6


def test_prune_spares_resume_source_and_protected(
    root: str, store: RunStore, scratch: Scratch, facts: Facts
) -> None:
    one = fill(store, scratch, facts, 1, 2)[0]
    resumed = RunStore(root, "run-a", 2)
    resumed.mark_resume_source(one)
    fill(resumed, scratch, facts, 3, 4, 5)
    assert [m.step for m in resumed.manifests()] == [5, 4, 1]
    resumed.verify(one)
    resumed.prune(protect={"step-00000001"})
    again = RunStore(root, "run-a", 2)  # resumed from the newest: nothing holds the old one now
    assert again.prune(protect={one.name}) == []
    assert again.prune() == ["step-00000001.ckpt.manifest.json", "step-00000001.ckpt"]


def test_prune_counts_whole_checkpoints_only(
    root: str, store: RunStore, scratch: Scratch, facts: Facts
) -> None:
    manifests = fill(store, scratch, facts, 1, 2, 3)
    for manifest in manifests[1:]:
        damage(files.join(root, manifest.path))
    fill(store, scratch, facts, 4)
    assert store.prune() == []
    store.verify(manifests[0])
    fill(store, scratch, facts, 5, 6)
    assert [m.step for m in store.manifests()] == [6, 5, 4]


@pytest.mark.parametrize("keep_last", [0, 1, 2])
def test_two_are_kept_whatever_is_asked(
    root: str, scratch: Scratch, facts: Facts, keep_last: int
) -> None:
    store = RunStore(root, "run-a", keep_last)
    fill(store, scratch, facts, 1, 2, 3)
    assert [m.step for m in store.manifests()] == [3, 2]


def test_strays_and_leftovers_go_when_all_that_is_kept_is_newer(
    tmp_path: Path, scratch: Scratch, facts: Facts
) -> None:
    store = RunStore(str(tmp_path / "x"), "run-a", 2)
    fill(store, scratch, facts, 10)
    run = tmp_path / "x" / "run-a"
    (run / "step-00000005.ckpt").write_bytes(b"cut off before its manifest")
    (run / "step-00000006.ckpt").write_bytes(b"x")
    (run / "step-00000006.ckpt.manifest.json").write_bytes(b"garbage")
    (run / "step-00000099.ckpt").write_bytes(b"perhaps being written")
    (run / ".step-00000007.ckpt.0123abcd.tmp").write_bytes(b"half")
    (run / "notes.txt").write_text("mine")
    fill(store, scratch, facts, 20)
    names = sorted(p.name for p in run.iterdir() if not p.name.endswith(".manifest.json"))
    assert names == ["notes.txt", "step-00000010.ckpt", "step-00000020.ckpt", "step-00000099.ckpt"]
    assert not (run / "step-00000006.ckpt.manifest.json").exists()


def test_a_failed_prune_warns_and_the_save_stands(
    tmp_path: Path,
    scratch: Scratch,
    facts: Facts,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = RunStore(str(tmp_path / "x"), "run-a", 2)
    fill(store, scratch, facts, 1, 2)

    def refuse(url: str) -> None:
        raise DataError(f"cannot remove {url}: Permission denied")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(files, "remove", refuse)
        (manifest,) = fill(store, scratch, facts, 3)
    assert store.newest_verified() == (manifest, [])
    assert "checkpoint.prune_failed" in caplog.text
    store.prune()
    assert [m.step for m in store.manifests()] == [3, 2]


def test_a_file_from_another_place_is_not_believed(
    root: str, store: RunStore, scratch: Scratch, facts: Facts
) -> None:
    (one,) = fill(store, scratch, facts, 1)
    text = files.read_bytes(files.join(root, one.path + ".manifest.json"))
    for folder, name in (("run-b", "step-00000001.ckpt"), ("run-a", "step-00000009.ckpt")):
        files.write_bytes_atomic(files.join(root, folder, name + ".manifest.json"), text)
    manifest, skipped = store.newest_verified()
    assert manifest == one
    assert len(skipped) == 2
    assert all("describes another file" in reason for reason in skipped)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"run_id": "..", "file": "x"}'])
def test_a_broken_pointer_does_not_hide_checkpoints(
    root: str, store: RunStore, scratch: Scratch, facts: Facts, text: str
) -> None:
    (one,) = fill(store, scratch, facts, 1)
    files.write_bytes_atomic(files.join(root, "LATEST.json"), text.encode())
    assert store.newest_verified()[0] == one


def test_a_listing_that_lags_behind_is_helped_by_the_pointer(
    root: str, store: RunStore, scratch: Scratch, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, two = fill(store, scratch, facts, 1, 2)
    real = files.list_dir
    monkeypatch.setattr(files, "list_dir", lambda url: [n for n in real(url) if "2" not in n])
    assert Catalogue(root).newest_verified() == (two, [])


def test_run_json_is_written_once(
    root: str, store: RunStore, run_manifest: Callable[..., RunManifest]
) -> None:
    run = run_manifest("run-a")
    assert store.catalogue.read_run("run-a") is None
    store.start_run(run)
    store.start_run(run)
    assert Catalogue(root).read_run("run-a") == run
    with pytest.raises(CheckpointError, match="differs"):
        store.start_run(run_manifest("run-a", global_batch_size=64))
    assert Catalogue(root).read_run("run-a") == run


def test_a_finished_run_says_so(root: str, store: RunStore) -> None:
    assert Catalogue(root).read_finished("run-a") is None
    for end in (Finished(step=100, limits={"max_epochs": 2}), Finished(step=150, limits={})):
        store.mark_finished(end)
        assert Catalogue(root).read_finished("run-a") == end
    assert Catalogue(root).read_finished("run-b") is None
    url = files.join(root, "run-a", "finished.json")
    files.write_bytes_atomic(url, b'{"run_id": "run-a", "step": 7}')  # of an older version
    assert Catalogue(root).read_finished("run-a") == Finished(step=7, limits={})
    for damaged in (b"{", b"[]", b'{"step": "x"}', b'{"limits": {}}', b'{"step": 1, "limits": 3}'):
        files.write_bytes_atomic(url, damaged)
        with pytest.raises(CheckpointError, match=r"finished\.json cannot be read"):
            Catalogue(root).read_finished("run-a")


def test_a_full_disk_is_a_checkpoint_error_and_harms_nothing(
    tmp_path: Path, scratch: Scratch, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RunStore(str(tmp_path / "x"), "run-a", 2)
    (one,) = fill(store, scratch, facts, 1)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CheckpointError, match="No space left") as caught:
            fill(store, scratch, facts, 2)
    assert caught.value.exit_code == 74
    assert "free space" in caught.value.hint
    assert store.newest_verified() == (one, [])
    assert len(list((tmp_path / "x" / "run-a").iterdir())) == 2
    fill(store, scratch, facts, 2)


def test_a_write_refused_by_the_kernel_is_a_checkpoint_error(
    tmp_path: Path,
    scratch: Scratch,
    facts: Facts,
    small_files: Callable[[], AbstractContextManager[None]],
) -> None:
    store = RunStore(str(tmp_path / "x"), "run-a", 2)
    (one,) = fill(store, scratch, facts, 1)
    big = scratch(bytes(1 << 20))
    with small_files(), pytest.raises(CheckpointError, match="File too large"):
        store.save(big, facts(2))
    assert store.newest_verified() == (one, [])
    assert len(list((tmp_path / "x" / "run-a").iterdir())) == 2
