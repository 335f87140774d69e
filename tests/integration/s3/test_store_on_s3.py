"""The run store on a real S3 server: what it writes, skips, keeps and never touches."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from naics_job.checkpoint.catalogue import Catalogue
from naics_job.checkpoint.manifest import CheckpointFacts, CheckpointManifest
from naics_job.checkpoint.resume import resolve
from naics_job.checkpoint.store import RunStore
from naics_job.errors import CheckpointError, DataError
from naics_job.storage import files

pytestmark = pytest.mark.integration
Facts = Callable[[int], CheckpointFacts]
Scratch = Callable[[bytes], Path]


@pytest.fixture
def root(bucket: Any) -> str:
    return files.join(bucket.url, "checkpoints/naics")


def save(store: RunStore, scratch: Scratch, facts: Facts, *steps: int) -> list[CheckpointManifest]:
    return [store.save(scratch(b"weights %d" % step), facts(step)) for step in steps]


def names(bucket: Any, run_id: str) -> list[str]:
    prefix = f"checkpoints/naics/{run_id}/"
    return [key.removeprefix(prefix) for key in bucket.keys(prefix)]


def pair(step: int) -> list[str]:
    return [f"step-{step:08d}.ckpt", f"step-{step:08d}.ckpt.manifest.json"]


def test_save_points_prunes_and_is_found_again(
    bucket: Any, root: str, scratch: Scratch, facts: Facts, tmp_path: Path
) -> None:
    store = RunStore(root, "run-a", 2)
    saved = save(store, scratch, facts, 10, 20, 30, 40)
    assert names(bucket, "run-a") == [*pair(30), *pair(40)]
    assert b'"step": 40' in bucket.get("checkpoints/naics/LATEST.json")
    assert save(store, scratch, facts, 40) == saved[-1:]  # once more changes nothing
    assert Catalogue(root).newest_verified() == (saved[-1], [])
    plan = resolve("auto", root, tmp_path / "cache")
    assert (plan.kind, plan.run_id, plan.manifest) == ("resume", "run-a", saved[-1])
    assert plan.local_file is not None
    assert plan.local_file.read_bytes() == b"weights 40"


@pytest.mark.parametrize("content", [b"weights 4\xff", b"weights", b""])
def test_a_changed_object_is_skipped_aloud(
    bucket: Any, root: str, scratch: Scratch, facts: Facts, tmp_path: Path, content: bytes
) -> None:
    """Also within one process, which knows the object as whole."""
    store = RunStore(root, "run-a", 2)
    older, newer = save(store, scratch, facts, 10, 40)
    assert store.newest_verified() == (newer, [])
    bucket.put(f"checkpoints/naics/{newer.path}", content)
    assert not store.catalogue.is_whole(newer)
    found, skipped = store.newest_verified()
    assert found == older
    assert len(skipped) == 1
    assert newer.file in skipped[0]
    plan = resolve("last", root, tmp_path / "cache")
    assert (plan.manifest, len(plan.skipped)) == (older, 1)
    again = store.save(scratch(b"weights 40"), facts(40))
    assert again.file == "step-00000040.2.ckpt"


@pytest.mark.parametrize("manifest", [b"", b"{", b'{"schema_version": 99}'])
def test_auto_beside_broken_manifests_only_is_an_error(
    bucket: Any, root: str, tmp_path: Path, manifest: bytes
) -> None:
    bucket.put("checkpoints/naics/run-a/step-00000010.ckpt", b"weights")
    bucket.put("checkpoints/naics/run-a/step-00000010.ckpt.manifest.json", manifest)
    with pytest.raises(CheckpointError, match="none of the checkpoints"):
        resolve("auto", root, tmp_path)


def test_a_pointer_to_nothing_is_said_and_passed_over(
    bucket: Any, root: str, scratch: Scratch, facts: Facts, tmp_path: Path
) -> None:
    (manifest,) = save(RunStore(root, "run-a", 2), scratch, facts, 10)
    gone = b'{"run_id": "run-a", "file": "step-00000099.ckpt", "step": 99}'
    bucket.put("checkpoints/naics/LATEST.json", gone)
    plan = resolve("last", root, tmp_path / "cache")
    assert plan.manifest == manifest
    assert "step-00000099" in "".join(plan.skipped)


def test_files_of_another_run_are_never_touched(
    bucket: Any, root: str, scratch: Scratch, facts: Facts
) -> None:
    first = RunStore(root, "run-a", 2)
    (source, _) = save(first, scratch, facts, 10, 20)
    before = {
        name: bucket.get(f"checkpoints/naics/run-a/{name}") for name in names(bucket, "run-a")
    }
    second = RunStore(root, "run-b", 2)
    second.mark_resume_source(source)
    save(second, scratch, facts, 10, 20, 30, 40, 50)
    assert names(bucket, "run-b") == [*pair(40), *pair(50)]
    assert {n: bucket.get(f"checkpoints/naics/run-a/{n}") for n in before} == before
    assert names(bucket, "run-a") == sorted(before)


def test_the_resume_source_outlives_newer_checkpoints(
    bucket: Any, root: str, scratch: Scratch, facts: Facts
) -> None:
    (source,) = save(RunStore(root, "run-a", 2), scratch, facts, 10)
    resumed = RunStore(root, "run-a", 2)
    resumed.mark_resume_source(source)
    save(resumed, scratch, facts, 20, 30, 40)
    assert names(bucket, "run-a") == [*pair(10), *pair(30), *pair(40)]


def test_a_manifest_that_another_process_wrote_meanwhile_wins(
    bucket: Any, root: str, scratch: Scratch, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes that take one run for theirs: the later one is told, and overwrites nothing."""
    real = files.copy_into

    def overtaken(local: Path, url: str) -> None:
        real(local, url)
        bucket.put("checkpoints/naics/run-a/step-00000010.ckpt.manifest.json", b"of the other")

    monkeypatch.setattr(files, "copy_into", overtaken)
    with pytest.raises(CheckpointError, match="other content") as caught:
        save(RunStore(root, "run-a", 2), scratch, facts, 10)
    assert "another process" in caught.value.hint
    manifest = "checkpoints/naics/run-a/step-00000010.ckpt.manifest.json"
    assert bucket.get(manifest) == b"of the other"


def test_a_missing_bucket_is_no_empty_store(
    bucket: Any, scratch: Scratch, facts: Facts, tmp_path: Path
) -> None:
    """A typing error must not become a run from step 0 at each restart."""
    root = "s3://no-such-bucket-of-ours/checkpoints/naics"
    for ckpt_path in ("auto", "last"):
        with pytest.raises((CheckpointError, DataError), match="the bucket does not exist"):
            resolve(ckpt_path, root, tmp_path)
    with pytest.raises(CheckpointError, match="the bucket does not exist"):
        save(RunStore(root, "run-a", 2), scratch, facts, 10)
