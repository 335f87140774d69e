"""What counts as progress, and how long silence is allowed."""

from typing import Any

import pytest

from naics_job.observability import heartbeat
from naics_job.observability.health import Health
from naics_job.observability.heartbeat import beat, rest


@pytest.fixture
def health(settings: Any, clock: Any, monkeypatch: pytest.MonkeyPatch) -> Health:
    """stall_s=60, start_s=300, with the heart on the same clock."""
    monkeypatch.setattr(heartbeat.time, "monotonic", clock)
    return Health(settings(stall_s=60.0, start_s=300.0), clock)


def test_training_may_be_silent_for_a_short_time(health: Health, clock: Any) -> None:
    health.sign()
    beat()
    clock.now += 60
    assert health.alive()[0]
    clock.now += 1
    alive, why = health.alive()
    assert not alive
    assert "61 s ago, more than metrics.stall_s=60" in why


def test_any_beat_is_progress(health: Health, clock: Any) -> None:
    """Such as an evaluation, whose length is no multiple of a step's."""
    health.sign()
    for _ in range(5):
        clock.now += 50
        beat()
        assert health.alive()[0]
    assert health.step_age_s() == 250


def test_a_wait_for_others_has_the_time_of_a_start(health: Health, clock: Any) -> None:
    health.sign()
    clock.now += 50
    rest()
    clock.now += 299
    assert health.alive()[0]
    clock.now += 2
    assert "metrics.start_s=300" in health.alive()[1]
    assert not health.alive()[0]
    beat()
    clock.now += 61
    assert "metrics.stall_s=60" in health.alive()[1]


def test_beats_of_an_earlier_run_do_not_make_a_start_old(settings: Any, clock: Any) -> None:
    """As in `train-seq`, whose stages are runs of one process."""
    heartbeat._pulse = heartbeat.Pulse(clock.now - 10_000, rests=True)
    assert Health(settings(), clock).alive()[0]


def test_a_run_that_has_ended_is_well(health: Health, clock: Any) -> None:
    health.sign()
    health.ended = True
    clock.now += 10_000
    assert health.alive() == (True, "the run has ended")


def test_ready_after_the_first_step(health: Health) -> None:
    beat()
    assert health.ready() == (False, "the first step is not done")
    assert health.step_age_s() is None
    health.sign()
    assert health.ready()[0]
