"""A save that fails or is killed at any operation leaves a store with a whole checkpoint."""

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import fsspec
import pytest

from naics_job.checkpoint.catalogue import Catalogue
from naics_job.checkpoint.manifest import CheckpointFacts
from naics_job.checkpoint.store import RunStore
from naics_job.errors import CheckpointError, TransientError
from naics_job.storage import files
from naics_job.storage.local import TEMPORARY

Facts = Callable[..., CheckpointFacts]
Scratch = Callable[[bytes], Path]
MANY = 10_000  # more operations than any save has
SYSTEM_CALLS = ("replace", "link", "fsync", "unlink", "mkdir", "listdir", "scandir")
REQUESTS = ("pipe_file", "put_file", "rm_file", "ls", "info", "cat_file", "open")


class Killed(BaseException):
    """The process is gone: this operation and every later one do not happen."""


class Faults:
    """Counts operations; the k-th raises `error`. After `Killed` nothing works any more."""

    def __init__(self, k: int, error: BaseException, *, after: bool = False) -> None:
        self.k, self.error, self.after = k, error, after
        self.count = 0

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            dead = isinstance(self.error, Killed) and self.count > self.k
            if dead or (self.count == self.k and not self.after):
                raise self.error
            result = call(*args, **kwargs)
            if self.count == self.k:  # done, but the answer never came
                raise self.error
            return result

        return run

    @property
    def happened(self) -> bool:
        return self.count >= self.k


class FaultyFile:
    """A file being written: each write is an operation, and a failing one writes half."""

    def __init__(self, file: Any, faults: Faults) -> None:
        self.file, self.faults = file, faults

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, data: bytes) -> int:
        half = self.file.write(data[: len(data) // 2])
        return half + int(self.faults.around(self.file.write)(data[len(data) // 2 :]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@contextmanager
def local_faults(faults: Faults) -> Iterator[None]:
    """Let the system calls that files.py makes on a local disk fail as `faults` says."""
    real_open = io.open

    def opened(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        handle = faults.around(real_open)(file, mode, *args, **kwargs)
        return FaultyFile(handle, faults) if "x" in mode else handle

    with pytest.MonkeyPatch.context() as patch:
        for name in SYSTEM_CALLS:
            patch.setattr(os, name, faults.around(getattr(os, name)))
        patch.setattr(io, "open", opened)
        yield


@contextmanager
def memory_faults(faults: Faults) -> Iterator[None]:
    """Let the requests to an object store fail as `faults` says."""
    kind = type(fsspec.filesystem("memory"))
    with pytest.MonkeyPatch.context() as patch:
        for name in REQUESTS:
            patch.setattr(kind, name, faults.around(getattr(kind, name)))
        yield


def injected(root: str, faults: Faults) -> Any:
    return memory_faults(faults) if root.startswith("memory:") else local_faults(faults)


@pytest.fixture
def fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


FULL = OSError(errno.ENOSPC, "No space left on device")
RESET = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")


@pytest.mark.usefixtures("fast_disk")
@pytest.mark.parametrize(
    ("error", "after"),
    [
        pytest.param(FULL, False, id="full"),
        pytest.param(OSError(errno.EIO, "Input/output error"), True, id="broken-after"),
        pytest.param(RESET, False, id="reset"),
        pytest.param(Killed(), False, id="killed"),
        pytest.param(Killed(), True, id="killed-after"),
    ],
)
def test_no_operation_of_a_save_can_lose_the_store(
    root: str, scratch: Scratch, facts: Facts, error: BaseException, after: bool
) -> None:
    operations = 0
    for k in range(1, MANY):
        folder = files.join(root, f"k{k}")
        store = RunStore(folder, "run-a", 2)
        for step in (1, 2, 3):
            store.save(scratch(b"weights %d" % step), facts(step))
        local = scratch(b"weights 4")
        faults = Faults(k, error, after=after)
        with injected(root, faults):
            try:
                store.save(local, facts(4))
                failed = False
            except (CheckpointError, TransientError, Killed):
                failed = True
        if not faults.happened:
            operations = k - 1
            break
        survivor, _ = Catalogue(folder).newest_verified()
        assert survivor is not None
        assert survivor.step in ((3, 4) if failed else (4,))
        content = files.read_bytes(files.join(folder, survivor.path))
        assert content == b"weights %d" % survivor.step
        whole = [m for m in store.manifests() if Catalogue(folder).is_whole(m)]
        assert len(whole) >= 2
        check_recovery(folder, local, facts)
    assert operations >= 15  # else the faults miss the operations they are meant for


def check_recovery(folder: str, local: Path, facts: Facts) -> None:
    """The next process saves the same step and cleans up."""
    again = RunStore(folder, "run-a", 2)
    manifest = again.save(local, facts(4))
    assert again.newest_verified() == (manifest, [])
    again.prune()
    assert [m.step for m in again.manifests()] == [4, 3]
    if not folder.startswith("memory:"):
        run = Path(folder) / "run-a"
        assert not [p.name for p in run.iterdir() if p.name.endswith(TEMPORARY)]


@pytest.mark.usefixtures("fast_disk")
def test_a_first_save_that_fails_leaves_nothing_to_trip_over(
    root: str, scratch: Scratch, facts: Facts
) -> None:
    """Killed during the first save of all: auto may start fresh, or finds the whole checkpoint."""
    from naics_job.checkpoint.resume import resolve

    for k in range(1, MANY):
        folder = files.join(root, f"k{k}")
        local, faults = scratch(b"weights"), Faults(k, Killed())
        with injected(root, faults), suppress(Killed):
            RunStore(folder, "run-a", 2).save(local, facts(1))
        if not faults.happened:
            assert k > 8
            break
        plan = resolve("auto", folder, local.parent)
        if plan.kind == "resume":
            assert plan.local_file is not None
            assert plan.local_file.read_bytes() == b"weights"
        assert plan.skipped == ()


@pytest.mark.parametrize("times", [1, 2])
def test_an_upload_that_arrives_changed_is_made_anew(
    root: str, scratch: Scratch, facts: Facts, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    real, uploads = files.copy_into, list[str]()

    def cutting(local: Path, url: str) -> None:
        uploads.append(url)
        if len(uploads) <= times:
            files.write_bytes_atomic(url, local.read_bytes()[:-3])
        else:
            real(local, url)

    monkeypatch.setattr(files, "copy_into", cutting)
    manifest = RunStore(root, "run-a", 2).save(scratch(b"weights"), facts(1))
    assert uploads == [files.join(root, manifest.path)] * (times + 1)
    assert files.read_bytes(uploads[0]) == b"weights"


def test_uploads_that_never_arrive_whole_are_never_named(
    root: str, scratch: Scratch, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        files, "copy_into", lambda local, url: files.write_bytes_atomic(url, b"weight")
    )
    store = RunStore(root, "run-a", 2)
    with pytest.raises(CheckpointError, match="truncated: 6 bytes of 7"):
        store.save(scratch(b"weights"), facts(1))
    assert files.list_dir(files.join(root, "run-a")) == []
    assert store.newest_verified() == (None, [])
