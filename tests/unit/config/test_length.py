"""How many optimizer steps a run has, worked by hand for 20 global batches."""

import pytest

from naics_job.config.length import RunLength, plan_length
from naics_job.config.load import load_config
from naics_job.errors import ConfigError


def length(*trainer: str, batches: int = 20) -> RunLength:
    overrides = [f"training.trainer.{setting}" for setting in ("max_epochs=3", *trainer)]
    training = load_config(None, "smoke", overrides).config.training
    return plan_length(training, batches)


@pytest.mark.parametrize(
    ("limit", "steps"),
    [
        ("limit_train_batches=null", 20),
        ("limit_train_batches=6", 6),
        ("limit_train_batches=5", 5),
        ("limit_train_batches=0.5", 10),
        ("limit_train_batches=1.0", 20),
        ("limit_train_batches=99", 20),
        ("overfit_batches=4", 4),
        ("overfit_batches=0.1", 2),
        ("overfit_batches=0", 20),
    ],
)
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_limited_epochs_have_fewer_steps(limit: str, steps: int, micro_batches: int) -> None:
    """A batch of Lightning is a whole step, whatever it is encoded in."""
    accumulate = f"accumulate_grad_batches={micro_batches}"
    assert length(limit, accumulate) == RunLength(steps, 3 * steps)


@pytest.mark.parametrize("limit", ["limit_train_batches=0.01", "overfit_batches=0.04"])
def test_a_limit_that_leaves_no_step_is_refused(limit: str) -> None:
    with pytest.raises(ConfigError, match=limit.partition("=")[0]) as caught:
        length(limit)
    assert "keep at least one step" in caught.value.hint


@pytest.mark.parametrize(
    ("limits", "steps", "epochs"),
    [
        (["max_steps=45"], 45, 3),
        (["max_steps=25"], 25, 2),
        (["max_steps=99"], 60, 3),
        (["max_epochs=-1", "max_steps=99"], 99, 5),
        (["max_epochs=null", "max_steps=40"], 40, 2),
        (["max_steps=5", "limit_train_batches=2"], 5, 3),
    ],
)
def test_the_smaller_of_epochs_and_steps_counts(limits: list[str], steps: int, epochs: int) -> None:
    found = length(*limits)
    assert (found.total_steps, found.epochs) == (steps, epochs)


def test_a_fast_dev_run_is_one_short_epoch() -> None:
    assert length("fast_dev_run=3", "limit_train_batches=9") == RunLength(3, 3)
    assert length("fast_dev_run=true") == RunLength(1, 1)
    assert length("fast_dev_run=false") == RunLength(20, 60)
