"""Lightning's Trainer from `training.trainer.*`, with its refusals in our words."""

import logging
import os
import warnings
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from naics_job.config.schema import Config
from naics_job.errors import ConfigError

NOISE = (  # Lightning's remarks on choices that are made on purpose here
    ".*does not have many workers.*",
    ".*LeafSpec.* is deprecated.*",
    ".*module.* in eval mode at the start of training.*",  # the frozen base encoder
)


def make_trainer(config: Config, **parts: Any) -> pl.Trainer:
    """A Trainer with `training.trainer.*` and the given callbacks, loggers and plugins.

    `parts` win over the settings: the accumulation of gradients is worked out for the run.

    Raises:
        ConfigError: Lightning refuses a setting, for example a GPU on a machine without one.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for pattern in NOISE:
        warnings.filterwarnings("ignore", pattern)
    arguments = dict(config.training.trainer)
    if arguments.get("precision") == "auto":
        on_gpu = arguments.get("accelerator") != "cpu" and torch.cuda.is_available()
        arguments["precision"] = "16-mixed" if on_gpu else "32-true"
    if config.training.repeats_batches:  # Lightning's way replaces the sampler; ours does not
        arguments["limit_train_batches"] = arguments.pop("overfit_batches")
    arguments["enable_model_summary"] = bool(arguments.get("enable_model_summary"))
    arguments["enable_progress_bar"] = False  # ours knows the phases
    arguments |= _started_processes(arguments)
    try:
        trainer = pl.Trainer(
            **{**arguments, **parts},
            enable_checkpointing=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
        )
        # Lightning's handler of SIGTERM waits for other processes inside of itself, see `stopping`
        trainer._signal_connector.register_signal_handlers = _leave  # type: ignore[method-assign]
        return trainer
    except (MisconfigurationException, ValueError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"Lightning's Trainer refuses training.trainer: {reason}",
            "compare training.trainer.* with this machine and the documentation of the Trainer",
        ) from error


def _started_processes(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Devices and nodes as the launcher has started processes; nothing without a launcher.

    Lightning would take `devices` and `num_nodes` at their word, and each of several processes that
    find 1 there would train by itself.

    Raises:
        ConfigError: the settings ask for another number.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return {}
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    started = {"devices": local, "num_nodes": world // local}
    for name, count in started.items():
        asked = arguments.get(name, 1)
        if _count(asked) not in (1, -1, count):
            raise ConfigError(
                f"training.trainer.{name}={asked}, but {count} were started",
                f"leave training.trainer.{name} out: the launcher says how many there are",
            )
    if isinstance(arguments.get("devices"), list | tuple):
        del started["devices"]  # which ones, is for Lightning to see
    return started


def _count(asked: Any) -> int:
    """How many devices or nodes `asked` names; -1 for all."""
    if isinstance(asked, str) and "," in asked:
        asked = asked.split(",")
    if isinstance(asked, list | tuple):
        return len(asked)
    return -1 if asked == "auto" else int(asked)


def _leave() -> None:
    """Leave the handlers of signals as they are."""


def check_trainer(config: Config) -> None:
    """Refuse settings that no Trainer takes here, before anything is computed.

    Raises:
        ConfigError: see `make_trainer`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the real one says it again
        make_trainer(config, logger=False)
