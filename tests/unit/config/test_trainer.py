"""Our list of Trainer arguments against the installed Trainer."""

import inspect
import typing
from typing import Any

import pytest

from naics_job.config.load import load_config
from naics_job.config.trainer import (
    PRECISIONS,
    REFUSED_ARGUMENTS,
    REFUSED_PRECISIONS,
    TRAINER_ARGUMENTS,
    check_trainer,
)


@pytest.fixture(scope="module")
def trainer_class() -> Any:
    return pytest.importorskip("lightning.pytorch").Trainer


def test_the_tables_hold_exactly_the_arguments_of_the_trainer(trainer_class: Any) -> None:
    signature = set(inspect.signature(trainer_class.__init__).parameters) - {"self"}
    assert not set(TRAINER_ARGUMENTS) & set(REFUSED_ARGUMENTS)
    assert signature == set(TRAINER_ARGUMENTS) | set(REFUSED_ARGUMENTS)


def test_only_objects_and_what_the_job_sets_itself_is_refused() -> None:
    objects = {"callbacks", "logger", "plugins"}
    own = {"default_root_dir", "enable_checkpointing", "use_distributed_sampler", "barebones"}
    own |= {"reload_dataloaders_every_n_epochs", "model_registry", "enable_autolog_hparams"}
    evaluation = {"limit_val_batches", "limit_test_batches", "limit_predict_batches"}
    evaluation |= {"val_check_interval", "check_val_every_n_epoch", "num_sanity_val_steps"}
    assert set(REFUSED_ARGUMENTS) == objects | own | evaluation | {"inference_mode"}
    for reason, instead in REFUSED_ARGUMENTS.values():
        assert reason
        assert instead


# Every argument with a value that is not the Trainer's own default.
TAKEN = {
    "accelerator": "cpu",
    "strategy": "auto",
    "devices": 1,
    "num_nodes": 1,
    "precision": "bf16-mixed",
    "fast_dev_run": 3,
    "max_epochs": -1,
    "min_epochs": 1,
    "max_steps": 7,
    "min_steps": 2,
    "max_time": "00:01:00:00",
    "limit_train_batches": 0.5,
    "overfit_batches": 2,
    "log_every_n_steps": 3,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accumulate_grad_batches": 2,
    "gradient_clip_val": 0.5,
    "gradient_clip_algorithm": "value",
    "deterministic": "warn",
    "benchmark": True,
    "profiler": "simple",
    "detect_anomaly": True,
    "sync_batchnorm": True,
}


@pytest.mark.filterwarnings("ignore")  # Lightning comments on some
def test_a_value_of_every_taken_argument_builds_a_trainer(
    trainer_class: Any, tmp_path: Any
) -> None:
    assert set(TAKEN) == set(TRAINER_ARGUMENTS)
    check_trainer(TAKEN)
    torch = pytest.importorskip("torch")
    before = torch.backends.cudnn.benchmark, torch.is_anomaly_enabled()
    try:
        for name, value in TAKEN.items():
            needed = {"accelerator": "cpu", "max_epochs": 1, "logger": False, name: value}
            trainer_class(**needed, default_root_dir=tmp_path, enable_checkpointing=False)
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = before[0]
        torch.autograd.set_detect_anomaly(before[1])


def test_every_precision_is_known_to_the_trainer() -> None:
    precision = pytest.importorskip("lightning.fabric.connector")
    known: set[str] = set()
    for group in ("_PRECISION_INPUT_INT", "_PRECISION_INPUT_STR", "_PRECISION_INPUT_STR_ALIAS"):
        known |= {str(value) for value in typing.get_args(getattr(precision, group))}
    taken = set(PRECISIONS) - {"auto"}
    assert not taken & set(REFUSED_PRECISIONS)
    assert taken | set(REFUSED_PRECISIONS) == known
    assert set(REFUSED_PRECISIONS.values()) <= taken


def test_the_packaged_values_build_a_trainer(trainer_class: Any, tmp_path: Any) -> None:
    values = dict(load_config().config.training.trainer)
    check_trainer(values)
    values |= {"precision": "32-true", "accelerator": "cpu", "logger": False}
    trainer = trainer_class(**values, default_root_dir=tmp_path, enable_checkpointing=False)
    assert trainer.max_epochs == values["max_epochs"]
