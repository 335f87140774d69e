"""Snapshots are stored in order, the newest first; failures are counted and tried again."""

import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from naics_job.checkpoint import uploader as module
from naics_job.checkpoint.uploader import Snapshot, Uploader
from naics_job.errors import CheckpointError, LeaseLostError, NaicsJobError, TransientError


class Store:
    """Holds every save until it is let go, and fails as often as told."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.failures: list[Exception] = []
        self.gate, self.entered = threading.Event(), threading.Semaphore(0)
        self.gate.set()

    def save(self, local_file: Path, facts: Any) -> Any:
        self.entered.release()
        self.gate.wait(20)
        assert local_file.exists()
        if self.failures:
            raise self.failures.pop(0)
        self.steps.append(facts.step)
        return SimpleNamespace(step=facts.step, path=f"{facts.step}", size_bytes=1)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def uploader(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Uploader]:
    monkeypatch.setattr(module, "BASE_S", 0.0)
    made = Uploader(store, 3)  # type: ignore[arg-type]
    yield made
    store.gate.set()
    made.close()


@pytest.fixture
def submit(uploader: Uploader, tmp_path: Path) -> Callable[[int], Path]:
    def put(step: int) -> Path:
        file = tmp_path / str(step)
        file.write_text("state")
        uploader.submit(Snapshot(file, SimpleNamespace(step=step)))  # type: ignore[arg-type]
        return file

    return put


def patience() -> float:
    return math.inf


def test_snapshots_are_stored_and_their_files_removed(
    uploader: Uploader, store: Store, submit: Callable[[int], Path]
) -> None:
    files = []
    for step in (1, 2):
        files.append(submit(step))
        assert uploader.flush(patience) is None
    assert store.steps == [1, 2]
    assert uploader.newest is not None
    assert uploader.newest.step == uploader.num_saved == 2
    assert not any(file.exists() for file in files)


def test_a_newer_snapshot_takes_the_place_of_the_waiting_one(
    uploader: Uploader, store: Store, submit: Callable[[int], Path]
) -> None:
    store.gate.clear()
    submit(1)
    store.entered.acquire()
    replaced = [submit(step) for step in (2, 3)]
    submit(4)
    assert not any(file.exists() for file in replaced)
    store.gate.set()
    assert uploader.flush(patience) is None
    assert store.steps == [1, 4]
    assert uploader.num_replaced == 2


def test_a_failed_save_is_tried_again(
    uploader: Uploader, store: Store, submit: Callable[[int], Path]
) -> None:
    store.failures = [TransientError("away"), CheckpointError("full")]
    file = submit(1)
    assert uploader.flush(patience) is None
    assert store.steps == [1]
    assert (uploader.num_failures, uploader.error) == (2, None)
    assert not file.exists()


def test_a_failed_save_gives_way_to_a_newer_one(
    uploader: Uploader, store: Store, submit: Callable[[int], Path]
) -> None:
    store.gate.clear()
    store.failures = [TransientError("away")]
    submit(1)
    store.entered.acquire()
    submit(2)
    store.gate.set()
    assert uploader.flush(patience) is None
    assert store.steps == [2]
    assert (uploader.num_failures, uploader.num_replaced) == (1, 1)


def test_only_failures_in_a_row_are_too_many(
    uploader: Uploader, store: Store, submit: Callable[[int], Path]
) -> None:
    for step in range(1, 5):
        store.failures = [TransientError("away")] * 2
        submit(step)
        assert uploader.flush(patience) is None
    assert uploader.num_failures == 8
    last = TransientError("for good")
    store.failures = [TransientError("away"), TransientError("away"), last]
    submit(5)
    assert uploader.flush(patience) is last
    assert uploader.error is last


def test_a_run_that_was_taken_over_tries_no_more(
    uploader: Uploader, store: Store, submit: Callable[[int], Path]
) -> None:
    lost = LeaseLostError("taken over")
    store.failures = [lost]
    submit(1)
    assert uploader.flush(patience) is lost
    assert (uploader.error, uploader.num_failures) == (lost, 1)


def test_a_defect_of_ours_is_a_failure_too(
    uploader: Uploader, store: Store, submit: Callable[[int], Path]
) -> None:
    store.failures = [ZeroDivisionError("oops")] * 3
    submit(1)
    error = uploader.flush(patience)
    assert isinstance(error, NaicsJobError)
    assert "ZeroDivisionError: oops" in str(error)


def test_waiting_has_an_end(
    uploader: Uploader, store: Store, submit: Callable[[int], Path]
) -> None:
    store.gate.clear()
    submit(1)
    left = iter([5.0, 0.1, -1.0])
    error = uploader.flush(lambda: next(left))
    assert isinstance(error, TransientError)
    assert "no time left" in str(error)


def test_a_snapshot_that_could_not_be_made_fails_the_flush_until_one_is_stored(
    uploader: Uploader, submit: Callable[[int], Path]
) -> None:
    failure = CheckpointError("the scratch disk is full")
    uploader.note_failure(failure)
    assert uploader.flush(patience) is failure
    submit(1)
    assert uploader.flush(patience) is None


def test_nothing_handed_over_is_nothing_to_wait_for(uploader: Uploader) -> None:
    assert uploader.flush(patience) is None
