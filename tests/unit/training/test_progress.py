"""What the progress line says of the time left."""

from types import SimpleNamespace
from typing import Any

import pytest

from naics_job.training.callbacks.progress import ProgressCallback
from naics_job.training.callbacks.throughput import ThroughputCallback


def time_left(step: int, total: int, first: int | None, since: int, seconds: float) -> str:
    """The text at `step` when the steps from `since` on took `seconds`."""
    callback = ProgressCallback(ThroughputCallback(0.0))
    callback._total = total
    callback._kind_since = (False, since, 1000.0)
    return callback._time_left(step, first, 1000.0 + seconds)


@pytest.mark.parametrize(
    ("step", "first", "since", "seconds", "text"),
    [
        (2, None, 0, 5.0, "measuring"),  # too few steps of this kind
        (10, None, 0, 10.0, "90 min left"),
        (10, None, 0, 0.1, "54 s left"),
        (10, 100, 0, 1.0, "9 s to encoder training"),  # what comes after is slower
        (100, 100, 95, 1.0, "18 min left"),
        (110, 100, 100, 10.0, "88 min left"),
        (10, 9000, 0, 0.1, "54 s left"),  # the encoder never trains in this run
        (5400, None, 5000, 40.0, "0 s left"),
        (6000, None, 5000, 40.0, "0 s left"),  # past what was planned
    ],
)
def test_only_steps_of_one_kind_are_extrapolated(
    step: int, first: int | None, since: int, seconds: float, text: str
) -> None:
    assert time_left(step, 5410 if step < 5400 else 5400, first, since, seconds) == text


def test_the_length_is_that_of_the_trainer_not_of_the_curriculum() -> None:
    callback = ProgressCallback(ThroughputCallback(0.0))
    trainer: Any = SimpleNamespace(estimated_stepping_batches=28, is_global_zero=False)
    callback.on_train_start(trainer, None)  # type: ignore[arg-type]
    assert callback._total == 28
