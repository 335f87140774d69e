"""The arguments of `lightning.pytorch.Trainer` that `training.trainer` takes, and their values.

Only plain data is taken: callbacks, loggers and plugins are objects that the job builds itself.
The values are checked here because Lightning would refuse them only after it has been imported.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from naics_job.config.checks import require

TRAINER_KEY = "training.trainer"

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
DURATION = re.compile(r"\d+:\d{1,2}:\d{1,2}:\d{1,2}")
TIME_UNITS = ("weeks", "days", "hours", "minutes", "seconds")
PRECISIONS = (
    "auto",
    *("16-mixed", "bf16-mixed", "32-true", "64-true", "16-true", "bf16-true"),
    *("transformer-engine", "transformer-engine-float16"),
    *("16", "32", "64", "bf16"),
)


def _whole(value: object, low: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= low


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _share(value: object) -> bool:
    if isinstance(value, float):
        return 0 < value <= 1
    return _whole(value)


def _duration(value: object) -> bool:
    if isinstance(value, dict):  # keywords of datetime.timedelta
        return bool(value) and all(name in TIME_UNITS and _number(n) for name, n in value.items())
    return value is None or DURATION.fullmatch(str(value)) is not None


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _devices(value: object) -> bool:
    if isinstance(value, str):
        return value == "auto" or all(part.strip().isdecimal() for part in value.split(","))
    if isinstance(value, list | tuple):
        return bool(value) and all(_whole(index, 0) for index in value)
    return value == -1 or _whole(value)


_WHOLE = (_whole, "a whole number at or above 1")
_FLAG = (_flag, "true or false")

_EXPECTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "max_epochs": _WHOLE,
    "accelerator": (lambda v: v in ACCELERATORS, "one of " + ", ".join(ACCELERATORS)),
    "devices": (_devices, "auto, a number of devices, -1 for all, or a list of indices"),
    "num_nodes": _WHOLE,
    "strategy": (lambda v: isinstance(v, str) and bool(v), "the name of a strategy, such as ddp"),
    "precision": (lambda v: str(v) in PRECISIONS, "one of " + ", ".join(PRECISIONS)),
    "accumulate_grad_batches": _WHOLE,
    "gradient_clip_val": (lambda v: v is None or _number(v), "a number at or above 0, or null"),
    "gradient_clip_algorithm": (lambda v: v in (None, "norm", "value"), "norm, value or null"),
    "log_every_n_steps": _WHOLE,
    "max_time": (_duration, "DD:HH:MM:SS, a mapping such as {hours: 2}, or null"),
    "limit_train_batches": (
        lambda v: v is None or _share(v),
        "a number of batches at or above 1, a share such as 0.5, or null",
    ),
    "deterministic": (lambda v: v is None or v == "warn" or _flag(v), "true, false or warn"),
    "benchmark": (lambda v: v is None or _flag(v), "true, false or null"),
    "profiler": (lambda v: v in (None, "simple", "advanced", "pytorch"), "simple or advanced"),
    "detect_anomaly": _FLAG,
    "enable_progress_bar": (lambda v: v is None or _flag(v), "true, false or null"),
    "enable_model_summary": (lambda v: v is None or _flag(v), "true, false or null"),
    "fast_dev_run": (lambda v: _flag(v) or _whole(v), "true, false or a number of batches"),
    "sync_batchnorm": _FLAG,
}

TRAINER_ARGUMENTS = tuple(_EXPECTED)
REQUIRED_ARGUMENTS = ("max_epochs", "num_nodes", "accumulate_grad_batches", "log_every_n_steps")


def check_trainer(values: Mapping[str, Any]) -> None:
    """Refuse a value of `training.trainer` that Lightning's Trainer would refuse later."""
    for name in dict.fromkeys((*REQUIRED_ARGUMENTS, *values)):
        accepts, expected = _EXPECTED[name]
        value = values.get(name)
        require(accepts(value), f"{TRAINER_KEY}.{name}", value, expected)
