"""When a run counts as finished, and what a fit that ended says about it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from naics_job.checkpoint.manifest import Finished
from naics_job.checkpoint.resume import ResumePlan
from naics_job.config.load import load_config
from naics_job.training.finish import is_done, limits_of, stopped_short


def plan(finished: Finished | None, *skipped: str) -> ResumePlan:
    """Resume a run whose newest checkpoint is at the end of its third epoch."""
    manifest: Any = SimpleNamespace(epoch=3)
    return ResumePlan(
        kind="resume",
        run_id="r",
        local_file=Path("state.ckpt"),
        manifest=manifest,
        finished=finished,
        skipped=skipped,
    )


@pytest.mark.parametrize(
    ("limits", "asked", "done"),
    [
        ({"max_epochs": 3}, 3, True),
        ({"max_epochs": 3}, 2, True),
        ({"max_epochs": 3}, 4, False),
        ({"max_epochs": 9}, 9, True),  # stopped early
        ({"max_epochs": 9}, 10, False),
        ({"max_epochs": 3, "max_steps": 21}, 3, False),  # max_steps is no limit any more
        ({}, 3, True),  # marked by an older version
        ({}, 4, False),
    ],
)
def test_a_finished_run_is_done_until_more_is_asked(
    limits: dict[str, int], asked: int, done: bool
) -> None:
    config = load_config(None, "smoke", [f"training.trainer.max_epochs={asked}"]).config
    assert is_done(plan(Finished(step=21, limits=limits)), config) is done


def test_what_has_no_whole_end_is_not_done() -> None:
    config = load_config(None, "smoke").config
    end = Finished(step=21, limits=limits_of(config))
    assert is_done(plan(end), config)
    assert not is_done(plan(end, "step-00000021.ckpt is truncated"), config)
    assert not is_done(plan(None), config)
    assert not is_done(ResumePlan(kind="fresh", run_id="r"), config)


@pytest.mark.parametrize(
    ("should_stop", "step", "stopped_early", "short"),
    [
        (False, 21, False, False),
        (True, 14, False, True),
        (True, 14, True, False),
        (True, 21, False, False),  # the time was up with the last step
        (False, 1, False, False),  # fast_dev_run
    ],
)
def test_only_a_time_limit_ends_a_run_short(
    should_stop: bool, step: int, stopped_early: bool, short: bool
) -> None:
    trainer: Any = SimpleNamespace(should_stop=should_stop, global_step=step)
    reason = stopped_short(trainer, 21, stopped_early)
    assert bool(reason) is short
    if short:
        assert "max_time ended the run after step 14 of 21" in reason
