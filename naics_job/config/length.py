"""How long a run is, worked out from settings and the number of its batches.

Training and `tools config` both ask here, so that what is shown is what is run.
"""

import math
from dataclasses import dataclass

from naics_job.config.checks import require
from naics_job.config.train_schema import TrainingConfig
from naics_job.config.trainer import TRAINER_KEY


@dataclass(frozen=True)
class RunLength:
    """Optimizer steps of a run, as planned before the first one."""

    steps_per_epoch: int
    total_steps: int

    @property
    def epochs(self) -> int:
        """Epochs that are begun."""
        return math.ceil(self.total_steps / self.steps_per_epoch)


def plan_length(training: TrainingConfig, num_batches: int, micro_batches: int) -> RunLength:
    """The length that `training.trainer.*` gives a run.

    With both `max_epochs` and `max_steps` the smaller counts, as in Lightning.

    Args:
        training: the settings.
        num_batches: global batches, which is optimizer steps, that one pass over the data has.
        micro_batches: parts of a global batch; what Lightning calls a batch is one part.

    Raises:
        ConfigError: a limit leaves no whole optimizer step, or ends in the middle of one.
    """
    per_epoch = _steps_per_epoch(training, num_batches, micro_batches)
    max_epochs = 1 if training.trainer.get("fast_dev_run") else training.max_epochs
    ends = [per_epoch * max_epochs] if max_epochs > 0 else []
    ends += [training.max_steps] if training.max_steps > 0 else []
    return RunLength(per_epoch, min(ends))  # config.trainer.check_trainer wants one of them


def _steps_per_epoch(training: TrainingConfig, num_batches: int, micro_batches: int) -> int:
    limit = training.batch_limit
    if limit is None:
        return num_batches
    key, value = limit
    parts = num_batches * micro_batches
    kept = int(parts * value) if isinstance(value, float) else min(parts, value)
    whole = kept >= 1 and kept % micro_batches == 0
    expected = (
        f"so that whole optimizer steps of {micro_batches} micro-batches are left; it keeps {kept} "
        f"of {parts} micro-batches"
    )
    hint = f"keep a multiple of {micro_batches} micro-batches, at least one"
    require(whole, f"{TRAINER_KEY}.{key}", value, expected, hint)
    return kept // micro_batches
