"""Uploads in parts that break, and one process whose threads use a bucket at the same time."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fault_proxy import Fault, FaultProxy

from naics_job.checkpoint.catalogue import Catalogue
from naics_job.checkpoint.lease import run_lease
from naics_job.checkpoint.manifest import CheckpointFacts, CheckpointManifest
from naics_job.checkpoint.store import RunStore
from naics_job.errors import TransientError
from naics_job.storage import files, sessions
from naics_job.storage.sessions import Purpose, filesystem, serving

pytestmark = pytest.mark.integration
Facts = Callable[[int], CheckpointFacts]
Scratch = Callable[[bytes], Path]
Patience = Callable[[int], None]
Save = Callable[[bytes], CheckpointManifest]
PART = 5 << 20  # the least that S3 takes
PARTS, DONE, BEGIN = r"^PUT \S*partNumber=2", r"^POST \S*uploadId=", r"^POST \S*\?uploads"


@pytest.fixture
def root(bucket: Any) -> str:
    return files.join(bucket.url, "checkpoints/naics")


@pytest.fixture
def save(root: str, scratch: Scratch, facts: Facts) -> Save:
    store = RunStore(root, "run-a", 2)
    return lambda content: store.save(scratch(content), facts(1))


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Three parts, while parts are as small as they may be."""
    monkeypatch.setattr("s3fs.core.calculate_chunksize", lambda size, chunksize=None: PART)
    return os.urandom(2 * PART + 1000)


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        (BEGIN, "lost"),
        (PARTS, "cut"),
        (PARTS, "lost"),
        (PARTS, "busy"),
        (DONE, "reset"),
        (DONE, "lost"),
    ],
)
def test_an_upload_that_breaks_is_made_anew(
    bucket: Any, proxy: FaultProxy, save: Save, patience: Patience, weights: bytes, pattern: str,
    fault: Fault,
) -> None:  # fmt: skip
    """Also when it was completed and only the answer to that was lost."""
    patience(4)
    proxy.fail_on(pattern, fault, times=2)  # aiohttp repeats a broken connection once by itself
    manifest = save(weights)
    assert proxy.unused == 0
    assert bucket.get(f"checkpoints/naics/{manifest.path}") == weights
    assert manifest.file == "step-00000001.ckpt"
    assert Catalogue(f"{bucket.url}/checkpoints/naics").newest_verified() == (manifest, [])


def test_no_manifest_names_an_upload_that_broke(
    bucket: Any, root: str, proxy: FaultProxy, save: Save, patience: Patience, weights: bytes
) -> None:
    patience(1)
    for pattern, fault in ((PARTS, "cut"), (DONE, "reset"), (DONE, "lost")):
        proxy.fail_on(pattern, fault, times=2)  # type: ignore[arg-type]
        with pytest.raises(TransientError):
            save(weights)
        proxy.watch()
        assert not [
            key for key in bucket.keys("") if key.endswith((".manifest.json", "LATEST.json"))
        ]
        assert Catalogue(root).newest_verified() == (None, [])
    manifest = save(weights)
    assert Catalogue(root).newest_verified() == (manifest, [])


def test_a_broken_read_of_a_large_file_is_repeated(
    bucket: Any, proxy: FaultProxy, patience: Patience, weights: bytes, tmp_path: Path
) -> None:
    patience(3)
    bucket.put("large.bin", weights)
    url, digest = f"{bucket.url}/large.bin", hashlib.sha256(weights).hexdigest()

    def opened() -> str:
        with files.open_read(url) as file:
            return hashlib.sha256(file.read()).hexdigest()

    for read in (
        opened,
        lambda: files.sha256_of(url),
        lambda: files.sha256_of(files.fetch(url, tmp_path)),
    ):
        proxy.fail_on(r"^GET \S*large\.bin", "lost", times=2)
        assert read() == digest
        assert proxy.unused == 0


def test_threads_use_a_bucket_at_once(bucket: Any, root: str, facts: Facts, tmp_path: Path) -> None:
    """One saves checkpoints, one reads and lists data, one renews a lease and drops sessions."""
    blobs = {f"{n}.bin": os.urandom(100_000 + n) for n in range(10)}
    for name, blob in blobs.items():
        bucket.put(f"data/{name}", blob)
    payloads = {step: b"weights %d " % step * 20_000 for step in range(1, 9)}
    jobs = (
        lambda: save_all(root, facts, payloads, tmp_path / "payload.ckpt"),
        lambda: read_all(f"{bucket.url}/data", blobs, tmp_path / "cache"),
        lambda: renew_and_forget(root),
    )
    with ThreadPoolExecutor(3) as pool:
        for task in [pool.submit(job) for job in jobs]:
            task.result()
    manifests = Catalogue(root).scan().manifests
    assert [manifest.step for manifest in manifests] == sorted(payloads, reverse=True)
    for manifest in manifests:
        assert bucket.get(f"checkpoints/naics/{manifest.path}") == payloads[manifest.step]


def save_all(root: str, facts: Facts, payloads: dict[int, bytes], local: Path) -> None:
    store = RunStore(root, "run-a", 20)
    for step, payload in payloads.items():
        local.write_bytes(payload)
        store.save(local, facts(step))


def read_all(folder: str, blobs: dict[str, bytes], cache: Path) -> None:
    for turn in range(8):
        assert files.list_dir(folder) == sorted(blobs)
        for name, blob in blobs.items():
            assert files.read_bytes(f"{folder}/{name}") == blob
            if turn == 0:
                assert files.fetch(f"{folder}/{name}", cache).read_bytes() == blob


def renew_and_forget(root: str) -> None:
    """As when a token expired in this thread; requests of the others go on."""
    purposes: tuple[Purpose, ...] = ("data", "checkpoints", "control")
    with run_lease(root, "run-a", 3.0, True) as held:
        for turn in range(40):
            held.require()
            held._write(released=False)
            if turn % 5 == 0:
                with serving(purposes[turn // 5 % 3]):
                    sessions.forget(filesystem(root)[0])
