"""What a signal does while a command may be ended at any moment, and while a run trains."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from naics_job.stopping import Stop, StopNow, listening

NUMBERS = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[list[Any]]:
    """The handlers of before, which must be back after the test."""
    before = [signal.getsignal(number) for number in NUMBERS]
    yield before
    assert [signal.getsignal(number) for number in NUMBERS] == before


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_ends_what_may_be_ended(number: int, handlers: list[Any]) -> None:
    with listening() as stop, pytest.raises(StopNow):
        signal.raise_signal(number)
    error = stop.error("while it prepared", "again")
    assert error.exit_code == 128 + number
    assert f"stopped by {signal.Signals(number).name} while it prepared" in str(error)


def test_no_handler_of_failures_takes_it() -> None:
    with listening(), pytest.raises(StopNow), suppress(Exception):  # what a logging handler does
        signal.raise_signal(signal.SIGTERM)


def test_while_a_run_trains_it_is_remembered() -> None:
    def train(stop: Stop) -> None:
        with stop.remembered():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            done.append(stop.seconds_left(10))

    done: list[float] = []
    with listening() as stop:
        with pytest.raises(StopNow):
            train(stop)
        assert stop.number == signal.SIGTERM
        assert done == [pytest.approx(10, abs=5)]


def test_no_training_begins_after_a_signal_that_was_swallowed() -> None:
    with listening() as stop:
        with suppress(StopNow):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(StopNow), stop.remembered():
            pytest.fail("began")


def test_ctrl_c_after_a_signal_waits_for_nothing() -> None:
    with listening() as stop, suppress(StopNow), stop.remembered():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_after_the_end_of_the_work_signals_mean_nothing() -> None:
    with listening() as stop:
        stop.finish()
        signal.raise_signal(signal.SIGTERM)
        assert stop.number is None


def test_the_next_run_of_the_process_can_be_stopped_again() -> None:
    with listening() as stop:
        stop.finish()
        stop.heed()
        with pytest.raises(StopNow):
            signal.raise_signal(signal.SIGTERM)


def test_a_signal_between_two_runs_stops_the_second() -> None:
    with listening() as stop:
        stop.finish()
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(StopNow):
            stop.heed()
        assert stop.number == signal.SIGTERM


def test_an_inner_listener_shares_the_outer_one() -> None:
    with listening() as outer:
        with listening() as inner:
            assert inner is outer
        with pytest.raises(StopNow):
            signal.raise_signal(signal.SIGTERM)


def test_another_thread_handles_no_signals() -> None:
    found: list[Any] = []

    def work() -> None:
        with listening() as stop:
            found.append((stop.number, signal.getsignal(signal.SIGTERM)))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(None, before)]


def test_another_thread_notices_while_the_main_thread_waits_in_c() -> None:
    """As in a collective: here in the join of a thread, which no handler interrupts."""
    noticed: list[int | None] = []

    def watch(stop: Stop) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        noticed.append(stop.noticed(10))

    with listening() as stop, suppress(StopNow), stop.remembered(), ThreadPoolExecutor() as pool:
        pool.submit(watch, stop)
    assert noticed == [signal.SIGTERM]


def test_noticing_takes_no_longer_than_asked() -> None:
    with listening() as stop:
        started = time.monotonic()
        assert stop.noticed(0.05) is None
        assert time.monotonic() - started < 5
