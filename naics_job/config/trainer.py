"""The arguments of `lightning.pytorch.Trainer`: which ones `training.trainer` takes, and which not.

Every argument is in one of two tables. Taken is what is plain data and means something here; what
is refused says why, and what to set instead. The values are checked here because Lightning would
refuse them only after it has been imported.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from naics_job.config.checks import require

TRAINER_KEY = "training.trainer"

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
DURATION = re.compile(r"\d+:\d{1,2}:\d{1,2}:\d{1,2}")
TIME_UNITS = ("weeks", "days", "hours", "minutes", "seconds")
PRECISIONS = ("auto", "16-mixed", "bf16-mixed", "32-true", "16", "32", "bf16")
# Lightning would convert weights and batches: losses need float32, and the features are kept so.
REFUSED_PRECISIONS = {  # -> the nearest one that works
    "64-true": "32-true",
    "64": "32-true",
    "16-true": "16-mixed",
    "bf16-true": "bf16-mixed",
    "transformer-engine": "bf16-mixed",
    "transformer-engine-float16": "16-mixed",
}


def _whole(value: object, low: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= low


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _share(value: object) -> bool:
    if isinstance(value, float):
        return 0 < value <= 1
    return _whole(value)


def _endless(value: object) -> bool:
    return _whole(value, -1) and value != 0


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
_COUNT = (lambda v: v is None or _whole(v, 0), "a whole number at or above 0, or null")
_FLAG = (_flag, "true or false")
_NULL_OR_FLAG = (lambda v: v is None or _flag(v), "true, false or null")

_EXPECTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "max_epochs": (
        lambda v: v is None or _endless(v),
        "a whole number at or above 1, or -1 with max_steps",
    ),
    "min_epochs": _COUNT,
    "max_steps": (_endless, "a whole number at or above 1, or -1 for no limit"),
    "min_steps": _COUNT,
    "accelerator": (lambda v: v in ACCELERATORS, "one of " + ", ".join(ACCELERATORS)),
    "devices": (_devices, "auto, a number of devices, -1 for all, or a list of indices"),
    "num_nodes": _WHOLE,
    "strategy": (lambda v: isinstance(v, str) and bool(v), "the name of a strategy, such as ddp"),
    "precision": (
        lambda v: v is None or str(v) in PRECISIONS,
        "one of " + ", ".join(PRECISIONS) + "; weights and losses stay float32 in all of them",
    ),
    "accumulate_grad_batches": _WHOLE,
    "gradient_clip_val": (lambda v: v is None or _number(v), "a number at or above 0, or null"),
    "gradient_clip_algorithm": (lambda v: v in (None, "norm", "value"), "norm, value or null"),
    "log_every_n_steps": _WHOLE,
    "max_time": (_duration, "DD:HH:MM:SS, a mapping such as {hours: 2}, or null"),
    "limit_train_batches": (
        lambda v: v is None or _share(v),
        "a number of batches at or above 1, a share such as 0.5, or null",
    ),
    "overfit_batches": (
        lambda v: _share(v) or (v == 0 and not _flag(v)),
        "a number of batches, a share such as 0.01, or 0",
    ),
    "deterministic": (lambda v: v is None or v == "warn" or _flag(v), "true, false or warn"),
    "benchmark": _NULL_OR_FLAG,
    "profiler": (lambda v: v in (None, "simple", "advanced", "pytorch"), "simple or advanced"),
    "detect_anomaly": _FLAG,
    "enable_progress_bar": _NULL_OR_FLAG,
    "enable_model_summary": _NULL_OR_FLAG,
    "fast_dev_run": (lambda v: _flag(v) or _whole(v, 0), "true, false or a number of batches"),
    "sync_batchnorm": _FLAG,
}

_EVALUATION = "there is no validation loader, all codes are evaluated"
_OFTEN = "set model.eval_every_n_epochs"

# name -> why it is refused, and what to use instead
REFUSED_ARGUMENTS = {
    "limit_val_batches": (_EVALUATION, f"to evaluate less often, {_OFTEN}"),
    "limit_test_batches": (_EVALUATION, "leave it out; `naics-embedder evaluate` scores all codes"),
    "limit_predict_batches": (_EVALUATION, "leave it out; every run exports all codes"),
    "val_check_interval": (_EVALUATION, _OFTEN),
    "check_val_every_n_epoch": (_EVALUATION, _OFTEN),
    "num_sanity_val_steps": (_EVALUATION, f"leave it out; {_OFTEN} for evaluations"),
    "inference_mode": (_EVALUATION, "leave it out; evaluations never keep gradients"),
    "enable_checkpointing": (
        "the job writes its own checkpoints, a resume needs them",
        "set checkpoint.max_lost_steps and checkpoint.keep_last",
    ),
    "default_root_dir": ("the job names its own folders", "set dirs.* and experiment_name"),
    "logger": (
        "the job builds its own loggers: TensorBoard and metrics.jsonl",
        "set dirs.log_dir for their place and training.trainer.log_every_n_steps for their rate",
    ),
    "enable_autolog_hparams": (
        "the settings are saved as YAML beside the checkpoints in any case",
        "leave it out",
    ),
    "callbacks": (
        "callbacks are objects that the job builds itself",
        "set training.early_stopping.* or checkpoint.*",
    ),
    "plugins": (
        "plugins are objects that the job builds itself",
        "set training.trainer.precision or training.trainer.strategy",
    ),
    "model_registry": (
        "the model is exported as a folder, not uploaded",
        "take it from dirs.output_dir",
    ),
    "use_distributed_sampler": (
        "the job shares out batches itself, another sampler would repeat them",
        "set data_loader.batch_size or data_loader.global_batch_size",
    ),
    "reload_dataloaders_every_n_epochs": (
        "every epoch has a new order already, drawn from the seed",
        "set seed for other orders",
    ),
    "barebones": (
        "it turns off loggers, which the job needs",
        "set training.trainer.enable_progress_bar=false or a larger log_every_n_steps",
    ),
}
TRAINER_ARGUMENTS = tuple(_EXPECTED)
REQUIRED_ARGUMENTS = ("max_epochs", "num_nodes", "accumulate_grad_batches", "log_every_n_steps")


def check_trainer(values: Mapping[str, Any]) -> None:
    """Refuse a value of `training.trainer` that Lightning's Trainer would refuse later."""
    for name in dict.fromkeys((*REQUIRED_ARGUMENTS, *values)):
        accepts, expected = _EXPECTED[name]
        value = values.get(name)
        near = REFUSED_PRECISIONS.get(str(value)) if name == "precision" else None
        hint = f"the nearest is {TRAINER_KEY}.{name}={near}" if near else ""
        require(accepts(value), f"{TRAINER_KEY}.{name}", value, expected, hint)
    endless = values.get("max_epochs") in (None, -1) and values.get("max_steps", -1) == -1
    hint = f"set {TRAINER_KEY}.max_steps as well, or a number of epochs"
    key, expected = f"{TRAINER_KEY}.max_epochs", "a number of epochs when max_steps is not set"
    require(not endless, key, values.get("max_epochs"), f"{expected}: phases need an end", hint)
