"""Retries with full jitter."""

import random

import pytest

from naics_job.errors import DataError, TransientError
from naics_job.storage import retry
from naics_job.storage.retry import with_retries


class Flaky:
    """Fails `failures` times with `error`, then returns 7."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.failures, self.error, self.calls = failures, error, 0

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return 7


def test_returns_the_first_success() -> None:
    action, pauses = Flaky(3, TransientError("x")), list[float]()
    rng = random.Random(0)
    result = with_retries(action, attempts=5, base_s=1.0, cap_s=60.0, rng=rng, sleep=pauses.append)
    assert result == 7
    assert action.calls == 4
    expected = random.Random(0)
    assert pauses == [expected.uniform(0.0, 2.0**n) for n in range(3)]


def test_pauses_are_spread_over_the_whole_range_and_capped() -> None:
    pauses = list[float]()
    rng, error = random.Random(1), TransientError("x")
    action = Flaky(3000, error)
    with_retries(action, attempts=3001, base_s=1.0, cap_s=8.0, rng=rng, sleep=pauses.append)
    late = pauses[10:]
    assert max(late) <= 8.0
    assert max(late) > 7.5
    assert min(late) < 0.5


def test_the_last_failure_is_raised() -> None:
    action = Flaky(9, TransientError("still down"))
    with pytest.raises(TransientError, match="still down"):
        with_retries(
            action, attempts=3, base_s=1.0, cap_s=1.0, rng=random.Random(0), sleep=lambda _: None
        )
    assert action.calls == 3


def test_permanent_errors_are_not_retried() -> None:
    action = Flaky(9, DataError("damaged"))
    with pytest.raises(DataError):
        with_retries(action, attempts=3, base_s=1.0, cap_s=1.0, rng=random.Random(0))
    assert action.calls == 1


def test_a_budget_of_time_is_used_up_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the jitter: the last try comes at its end, and no pause goes beyond it."""
    now = [0.0]
    monkeypatch.setattr(retry, "monotonic", lambda: now[0])

    def sleep(pause_s: float) -> None:
        now[0] += pause_s

    for seed in range(50):
        now[0] = 0.0
        action = Flaky(10**6, TransientError("still down"))
        with pytest.raises(TransientError):
            with_retries(
                action, attempts=10**6, base_s=0.5, cap_s=15.0, budget_s=120.0,
                rng=random.Random(seed), sleep=sleep,
            )  # fmt: skip
        assert now == [pytest.approx(120.0)]
        assert 10 < action.calls < 60
