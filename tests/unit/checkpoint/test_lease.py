"""One run at a time per experiment, whoever is killed, suspended, cut off or started at once."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from naics_job.checkpoint import holder, lease
from naics_job.checkpoint.lease import RunLease, decode, run_lease
from naics_job.checkpoint.manifest import CheckpointFacts, Finished
from naics_job.checkpoint.store import RunStore
from naics_job.errors import CheckpointError, TransientError
from naics_job.storage import files

TTL_S = 0.6  # short, so that a test waits for one; no test measures a time
HOLD = """
import sys, time
from naics_job.checkpoint.lease import run_lease
with run_lease(sys.argv[1], "run-of-child", float(sys.argv[2]), True):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on this process seems to be on another machine."""

    def move() -> None:
        other = replace(holder.this_process(), host="other", boot="other-boot", pid=1)
        monkeypatch.setattr(holder, "this_process", lambda: other)
        monkeypatch.setattr(lease, "this_process", lambda: other)

    return move


@pytest.fixture
def child(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lease of `tmp_path`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path), "3"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def silent(root: str, ttl_s: float = TTL_S, exclusive: bool = True) -> RunLease:
    """A holder that has fallen silent, as one whose machine went away."""
    held = RunLease(root, "run-a", ttl_s, exclusive)
    held.acquire()
    held._stop.set()
    assert held._thread is not None
    held._thread.join()
    return held


def lease_names(root: str) -> list[str]:
    return files.list_dir(files.join(root, "lease"))


def content(root: str) -> Any:
    (name,) = lease_names(root)
    return json.loads(files.read_bytes(files.join(root, "lease", name)))


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_second_run_is_refused_and_told_whose_it_is(root: str, exclusive: bool) -> None:
    with run_lease(root, "run-a", 3.0, exclusive):
        with (
            pytest.raises(
                CheckpointError, match=r"naics/lease is held: run run-a, process"
            ) as caught,
            run_lease(root, "run-b", 3.0, exclusive),
        ):
            pytest.fail("two hold it")
        assert caught.value.exit_code == 74
        assert "experiment_name" in caught.value.hint
        assert len(lease_names(root)) == 1


def test_a_run_that_ended_makes_nobody_wait(root: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="naics_job")
    for epoch in (1, 2, 3):
        with run_lease(root, "run-a", 1e6, True) as held:
            assert not held.waited
            assert content(root)["epoch"] == epoch
    assert content(root)["released"]
    assert "lease.waiting" not in [record.message for record in caplog.records]


def test_a_silent_holder_is_followed_after_its_time(
    root: str, elsewhere: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    """And finds out, before it writes anything, that it has lost."""
    caplog.set_level(logging.INFO, logger="naics_job")
    first = silent(root)
    elsewhere()
    with run_lease(root, "run-b", TTL_S, True) as second:
        assert second.waited
        second.require()
        with pytest.raises(CheckpointError, match=r"has lost its lease: .*00000002\.json is newer"):
            first.require()
        first.release()
        assert (content(root)["run_id"], content(root)["released"]) == ("run-b", False)
    (waiting,) = [record for record in caplog.records if record.message == "lease.waiting"]
    assert waiting.fields["run_of_holder"] == "run-a"  # type: ignore[attr-defined]
    assert waiting.fields["longest_s"] == TTL_S  # type: ignore[attr-defined]


def test_the_longer_time_of_both_counts(root: str, elsewhere: Callable[[], None]) -> None:
    """A run with a short setting must not call one with a long setting dead."""
    with run_lease(root, "run-a", 6 * TTL_S, True):
        elsewhere()
        with (
            pytest.raises(CheckpointError, match="is held: run run-a"),
            run_lease(root, "run-b", TTL_S / 6, True),
        ):
            pytest.fail("two hold it")


def test_a_killed_process_of_this_machine_is_followed_at_once(
    tmp_path: Path, child: subprocess.Popen[str]
) -> None:
    child.send_signal(signal.SIGKILL)
    child.wait()
    with run_lease(str(tmp_path), "run-b", 1e6, True) as held:
        assert held.waited  # it may have saved since this run decided from what to resume
        assert content(str(tmp_path))["epoch"] == 2


def test_a_live_process_of_this_machine_is_not(
    tmp_path: Path, child: subprocess.Popen[str]
) -> None:
    with pytest.raises(CheckpointError, match=rf"run-of-child, process {child.pid} on"):
        RunLease(str(tmp_path), "run-b", 1.0, True).acquire()


def test_a_suspended_process_loses_when_it_wakes(
    tmp_path: Path, scratch: Callable[[bytes], Path], facts: Callable[[int], CheckpointFacts]
) -> None:
    store = RunStore(str(tmp_path), "run-a", 2)
    store.lease = silent(str(tmp_path))
    store.save(scratch(b"one"), facts(1))
    with run_lease(str(tmp_path), "run-b", TTL_S, True):
        before = files.list_dir(str(tmp_path / "run-a"))
        for write in (
            lambda: store.save(scratch(b"two"), facts(2)),
            lambda: store.mark_finished(Finished(step=2, limits={})),
        ):
            with pytest.raises(CheckpointError, match="has lost its lease"):
                write()
        assert files.list_dir(str(tmp_path / "run-a")) == before
    assert store.newest_verified()[1] == []  # the folder of the lease is no run


@pytest.mark.parametrize(
    ("change", "gone"),
    [
        ({"started": 1}, True),  # its pid belongs to another process now
        ({"pid": 2**22 + 1}, True),
        ({}, False),
        ({"namespace": "pid:[1]", "pid": 2**22 + 1}, False),  # a container restarted in place
        ({"boot": "b", "pid": 2**22 + 1}, False),  # the name of a host is not its identity
        ({"boot": "", "pid": 2**22 + 1}, False),
        ({"started": -1, "pid": 2**22 + 1}, False),
    ],
)
def test_who_is_known_to_be_gone(change: dict[str, Any], gone: bool) -> None:
    assert replace(holder.this_process(), **change).is_gone() is gone


def test_a_zombie_is_gone() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    named = replace(holder.this_process(), pid=process.pid, started=holder._start_of(process.pid))
    assert not named.is_gone()
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert named.is_gone()
    process.communicate()


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("earlier", [False, True])
def test_of_many_that_start_at_once_at_most_one_goes_on(
    root: str, exclusive: bool, earlier: bool
) -> None:
    if earlier:
        with run_lease(root, "run-0", TTL_S, exclusive):
            pass
    start = threading.Barrier(6)

    def go(number: int) -> RunLease | None:
        start.wait()
        held = RunLease(root, f"run-{number}", 3.0, exclusive)
        try:
            held.acquire()
        except CheckpointError:
            return None
        return held

    with ThreadPoolExecutor(6) as pool:
        holders = [held for held in pool.map(go, range(6)) if held is not None]
    assert len(holders) == 1
    holders[0].require()
    holders[0].release()


@pytest.mark.parametrize(
    ("run_id", "step", "lost"), [("run-b", 12, 2), ("run-b", 20, 0), ("c", 0, 0)]
)
@pytest.mark.parametrize("ended", ["released", "killed"])
def test_steps_that_the_last_holder_did_in_vain_are_counted(
    root: str, elsewhere: Callable[[], None], run_id: str, step: int, lost: int, ended: str
) -> None:
    held = RunLease(root, "run-a", TTL_S, exclusive_names=True)
    held.acquire()
    assert held.begin("run-b", 10) == 0  # it had to choose another run than it claimed first
    held.progress = lambda: 14
    while content(root)["step"] != 14:
        time.sleep(0.01)
    if ended == "released":
        held.release()
    else:
        held._stop.set()
        elsewhere()
    with run_lease(root, run_id, TTL_S, True) as after:
        assert after.begin(run_id, step) == lost


def test_a_renewal_is_seen_and_old_files_go(root: str) -> None:
    with run_lease(root, "run-a", 0.3, True):
        before = content(root)["counter"]
        while content(root)["counter"] < before + 3:
            time.sleep(0.01)
    with run_lease(root, "run-b", 0.3, True):
        assert lease_names(root) == ["00000002.json"]


def test_an_outage_ends_no_lease(
    root: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Renewals go on failing, and then go on."""
    with run_lease(root, "run-a", 0.3, True) as held:

        def away(url: str, data: bytes = b"") -> Any:
            raise TransientError("storage is away")

        with monkeypatch.context() as outage:
            outage.setattr(files, "list_dir", away)
            outage.setattr(files, "write_bytes_atomic", away)
            while len(caplog.records) < 8:  # longer than its time to live
                time.sleep(0.01)
            with pytest.raises(TransientError):
                held.require()
        assert {record.message for record in caplog.records} == {"lease.renewal_failed"}
        before = content(root)["counter"]
        while content(root)["counter"] == before:
            time.sleep(0.01)
        held.require()


def test_time_without_storage_is_no_silence(
    root: str, elsewhere: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A holder cannot count up while storage is away: whoever watches begins to wait anew."""
    first = silent(root)
    elsewhere()
    real, reads = files.read_bytes, list[str]()

    def slow(url: str) -> bytes:
        reads.append(url)
        if len(reads) == 3:
            time.sleep(2 * TTL_S)  # the outage; after it the holder is back
            first._write(released=False)
        return real(url)

    monkeypatch.setattr(files, "read_bytes", slow)
    with pytest.raises(CheckpointError, match="is held: run run-a"):
        RunLease(root, "run-b", TTL_S, True).acquire()
    assert len(reads) >= 3


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"holder": 3}'])
def test_a_file_that_cannot_be_read_is_watched_like_any_other(root: str, data: bytes) -> None:
    assert decode(data) is None
    files.write_bytes_atomic(files.join(root, "lease", "00000009.json"), data)
    with run_lease(root, "run-b", TTL_S, True) as held:
        assert held.waited
        assert lease_names(root) == ["00000010.json"]


def test_a_failed_release_is_a_warning(
    root: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(url: str, data: bytes) -> None:
        raise TransientError("storage is away")

    with run_lease(root, "run-a", 1e6, True):
        monkeypatch.setattr(files, "write_bytes_atomic", away)
    assert "lease.release_failed" in [record.message for record in caplog.records]


def test_a_signal_ends_the_wait_and_leaves_no_claim(
    root: str, elsewhere: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    silent(root, ttl_s=1e6)
    elsewhere()
    before = lease_names(root)

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            RunLease(root, "run-b", 1e6, True).acquire()
    finally:
        signal.signal(signal.SIGALRM, old)
    assert lease_names(root) == before


def test_a_claim_that_is_stopped_in_the_making_is_withdrawn(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = files.create_bytes

    def interrupted(url: str, data: bytes) -> None:
        real(url, data)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files, "create_bytes", interrupted)
        with pytest.raises(KeyboardInterrupt):
            RunLease(root, "run-a", 1e6, True).acquire()
    assert lease_names(root) == []
