"""The state of Lightning's loops at the end of an epoch."""

import copy
from typing import Any

from naics_job.training.loop_state import recount_batches, reopen_epoch, settle_epoch


def progress(total: int, current: int, completed: int) -> dict[str, Any]:
    keys = ("ready", "started", "processed")
    return {
        "total": {**dict.fromkeys(keys, total), "completed": completed},
        "current": {**dict.fromkeys(keys, current), "completed": current - 1},
    }


def test_the_epoch_is_over_and_the_next_has_not_begun() -> None:
    optimizer = {
        "step": {"total": {"ready": 14, "completed": 14}, "current": {"ready": 7, "completed": 7}}
    }
    fit = {
        "epoch_progress": progress(2, 2, 1),
        "epoch_loop.batch_progress": {**progress(28, 14, 27), "is_last_batch": True},
        "epoch_loop.scheduler_progress": progress(14, 7, 14),
        "epoch_loop.automatic_optimization.optim_progress": {"optimizer": optimizer},
        "epoch_loop.state_dict": {"_batches_that_stepped": 13},
    }
    before = copy.deepcopy(fit)
    settle_epoch({"fit_loop": fit}, num_epochs=2, num_steps=14)
    done = dict.fromkeys(("ready", "started", "processed", "completed"), 2)
    assert fit["epoch_progress"] == {"total": done, "current": done}
    batches = fit["epoch_loop.batch_progress"]
    assert set(batches["total"].values()) == {28}
    assert set(batches["current"].values()) == {0}
    assert batches["is_last_batch"] is False
    assert optimizer["step"]["total"] == {"ready": 14, "completed": 14}
    assert optimizer["step"]["current"] == {"ready": 0, "completed": 0}
    assert fit["epoch_loop.state_dict"] == {"_batches_that_stepped": 14}
    assert fit.keys() == before.keys()


def test_an_epoch_that_was_cut_short_is_still_running() -> None:
    fit: dict[str, Any] = {"epoch_progress": progress(3, 3, 3)}
    reopen_epoch({"fit_loop": fit}, epoch=2)
    running = {"ready": 3, "started": 3, "processed": 2, "completed": 2}
    assert fit["epoch_progress"] == {"total": running, "current": running}


def test_other_micro_batches_are_counted_anew() -> None:
    fit: dict[str, Any] = {"epoch_loop.batch_progress": progress(10, 3, 9)}
    recount_batches({"fit_loop": fit}, num_batches=12)
    assert fit["epoch_loop.batch_progress"] == progress(10, 12, 9)
