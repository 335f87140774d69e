"""A signal to one of two real processes reaches the other, whatever both do just then."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch.distributed as dist

from naics_job.distributed import process_group, tell_peers
from naics_job.errors import TransientError
from naics_job.stopping import Stop, StopNow, listening

pytestmark = pytest.mark.integration
Case = Callable[[int, Stop, Path], None]


def one_waits_for_the_other(rank: int, stop: Stop, folder: Path) -> None:
    """As rank 1 does in a barrier while rank 0 prepares data."""
    with process_group(False, stop):
        (folder / f"ready{rank}").touch()
        if rank == 0:
            time.sleep(60)
        dist.barrier()


def one_comes_late(rank: int, stop: Stop, folder: Path) -> None:
    """As rank 1 still imports libraries when it is told."""
    if rank == 1:
        try:
            (folder / "ready1").touch()
            time.sleep(60)
        except StopNow:
            tell_peers(stop)
            raise
    (folder / "ready0").touch()
    with process_group(False, stop):
        pytest.fail("began")


def both_train(rank: int, stop: Stop, folder: Path) -> None:
    """Nothing is cut off; both know."""
    with process_group(False, stop), stop.remembered():
        (folder / f"ready{rank}").touch()
        while stop.number is None:
            time.sleep(0.01)
        dist.barrier()


def one_dies(rank: int, stop: Stop, folder: Path) -> None:
    with process_group(False, stop):
        (folder / f"ready{rank}").touch()
        if rank == 1:
            time.sleep(60)
        dist.barrier()


def work(case: Case, rank: int, port: int, folder: Path) -> None:
    os.environ |= {
        "GLOO_SOCKET_IFNAME": "lo",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "RANK": str(rank),
    }
    outcome = "ended"
    try:
        with listening() as stop:
            case(rank, stop, folder)
    except (StopNow, TransientError) as error:
        outcome = type(error).__name__
    (folder / f"outcome{rank}").write_text(outcome)


def outcomes(case: Case, folder: Path, told: int, number: int = signal.SIGTERM) -> list[str]:
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=work, args=(case, rank, store.port, folder)) for rank in (0, 1)
    ]
    for process in processes:
        process.start()
    try:
        until = time.monotonic() + 120
        while not all((folder / f"ready{rank}").exists() for rank in (0, 1)):
            assert time.monotonic() < until
            time.sleep(0.02)
        time.sleep(0.3)  # for the one that goes on to wait in C
        os.kill(processes[told].pid or 0, number)
        for process in processes:
            process.join(60)
            assert process.exitcode is not None
    finally:
        for process in processes:
            process.kill()
            process.join()
    files = [folder / f"outcome{rank}" for rank in (0, 1)]
    return [file.read_text() if file.exists() else "killed" for file in files]


@pytest.mark.parametrize("told", [0, 1])
def test_it_ends_one_that_prepares_and_one_that_waits(tmp_path: Path, told: int) -> None:
    assert outcomes(one_waits_for_the_other, tmp_path, told) == ["StopNow", "StopNow"]


def test_it_ends_those_who_wait_for_one_that_never_comes(tmp_path: Path) -> None:
    assert outcomes(one_comes_late, tmp_path, told=1) == ["StopNow", "StopNow"]


@pytest.mark.parametrize("told", [0, 1])
def test_both_know_while_they_train(tmp_path: Path, told: int) -> None:
    assert outcomes(both_train, tmp_path, told) == ["StopNow", "StopNow"]


def test_a_peer_that_dies_is_missed(tmp_path: Path) -> None:
    found = outcomes(one_dies, tmp_path, told=1, number=signal.SIGKILL)
    assert found == ["TransientError", "killed"]
