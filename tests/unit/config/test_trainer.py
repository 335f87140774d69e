"""Our list of Trainer arguments against the installed Trainer."""

import inspect
import typing
from typing import Any

import pytest

from naics_job.config.load import load_config
from naics_job.config.trainer import PRECISIONS, TRAINER_ARGUMENTS, check_trainer


@pytest.fixture(scope="module")
def trainer_class() -> Any:
    return pytest.importorskip("lightning.pytorch").Trainer


def test_every_argument_is_one_of_the_trainer(trainer_class: Any) -> None:
    assert set(TRAINER_ARGUMENTS) <= set(inspect.signature(trainer_class).parameters)


def test_every_plain_argument_is_offered(trainer_class: Any) -> None:
    """What is left out is an object, or belongs to a setting of ours (checkpoints, validation)."""
    ours = {"callbacks", "logger", "plugins", "default_root_dir", "enable_checkpointing"}
    own_loop = {"max_steps", "min_epochs", "min_steps", "reload_dataloaders_every_n_epochs"}
    own_loop |= {"use_distributed_sampler", "overfit_batches", "inference_mode", "barebones"}
    own_loop |= {"model_registry", "enable_autolog_hparams"}
    evaluation = {"limit_val_batches", "limit_test_batches", "limit_predict_batches"}
    evaluation |= {"val_check_interval", "check_val_every_n_epoch", "num_sanity_val_steps"}
    left_out = set(inspect.signature(trainer_class.__init__).parameters) - set(TRAINER_ARGUMENTS)
    assert left_out - {"self"} <= ours | own_loop | evaluation


def test_every_precision_is_known_to_the_trainer() -> None:
    precision = pytest.importorskip("lightning.fabric.connector")
    known: set[str] = set()
    for group in ("_PRECISION_INPUT_INT", "_PRECISION_INPUT_STR", "_PRECISION_INPUT_STR_ALIAS"):
        known |= {str(value) for value in typing.get_args(getattr(precision, group))}
    assert set(PRECISIONS) - {"auto"} == known


def test_the_packaged_values_build_a_trainer(trainer_class: Any, tmp_path: Any) -> None:
    values = dict(load_config().config.training.trainer)
    check_trainer(values)
    values |= {"precision": "32-true", "accelerator": "cpu", "logger": False}
    trainer = trainer_class(**values, default_root_dir=tmp_path, enable_checkpointing=False)
    assert trainer.max_epochs == values["max_epochs"]
