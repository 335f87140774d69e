"""Whether a run has come to its planned end, now and when it is started again."""

from datetime import timedelta

import lightning.pytorch as pl

from naics_job.checkpoint.resume import ResumePlan
from naics_job.config.schema import Config

LIMITS = ("max_epochs", "max_steps")  # of training.trainer; a limit that is not set is no limit
UNLIMITED = -1


def limits_of(config: Config) -> dict[str, int]:
    """The limits that the settings give a run, by name."""
    found = {name: config.training.trainer.get(name) for name in LIMITS}
    return {name: int(value) for name, value in found.items() if value not in (None, UNLIMITED)}


def time_limit_of(config: Config) -> dict[str, int]:
    """`max_time` in seconds under the name it has in finished.json; empty when it is not set."""
    limit = config.training.trainer.get("max_time")
    if limit is None:
        return {}
    if isinstance(limit, str):
        parts = map(int, limit.split(":"))
        limit = dict(zip(("days", "hours", "minutes", "seconds"), parts, strict=True))
    return {"max_time_s": int(timedelta(**limit).total_seconds())}


def is_done(plan: ResumePlan, config: Config) -> bool:
    """Whether the run to resume is finished and the settings ask for no more than it planned.

    A run that stopped early has planned more than it trained, and is finished all the same; so is
    one that `max_time` ended, as long as that is not raised. It is not when a newer checkpoint had
    to be passed over: what that one held is trained again.
    """
    if plan.finished is None or plan.manifest is None or plan.skipped:
        return False
    planned = plan.finished.limits or {"max_epochs": plan.manifest.epoch}  # an older version's
    asked = limits_of(config) | time_limit_of(config)
    return all(name in asked and asked[name] <= limit for name, limit in planned.items())


def stopped_short(trainer: pl.Trainer, planned_steps: int, stopped_early: bool) -> str:
    """Why a fit that ended well has not reached its planned end; empty when it has.

    Lightning leaves `should_stop` set by whoever ended the fit before `max_epochs` and `max_steps`:
    early stopping, or its timer, which counts the time of all starts of the run.
    """
    if not trainer.should_stop or stopped_early or trainer.global_step >= planned_steps:
        return ""
    return (
        f"training.trainer.max_time ended the run after step {trainer.global_step} of "
        f"{planned_steps}; raise it and continue with --ckpt-path last"
    )
