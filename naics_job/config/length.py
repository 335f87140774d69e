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


def plan_length(training: TrainingConfig, num_batches: int) -> RunLength:
    """The length that `training.trainer.*` gives a run.

    With both `max_epochs` and `max_steps` the smaller counts, as in Lightning.

    Args:
        training: the settings.
        num_batches: global batches, which is optimizer steps, that one pass over the data has.

    Raises:
        ConfigError: a limit leaves no step.
    """
    per_epoch = _steps_per_epoch(training, num_batches)
    max_epochs = 1 if training.trainer.get("fast_dev_run") else training.max_epochs
    ends = [per_epoch * max_epochs] if max_epochs > 0 else []
    ends += [training.max_steps] if training.max_steps > 0 else []
    return RunLength(per_epoch, min(ends))  # config.trainer.check_trainer wants one of them


def _steps_per_epoch(training: TrainingConfig, num_batches: int) -> int:
    limit = training.batch_limit
    if limit is None:
        return num_batches
    key, value = limit
    kept = int(num_batches * value) if isinstance(value, float) else min(num_batches, value)
    expected = f"so that a step is left; it keeps {kept} of {num_batches}"
    require(kept >= 1, f"{TRAINER_KEY}.{key}", value, expected, "keep at least one step")
    return kept
