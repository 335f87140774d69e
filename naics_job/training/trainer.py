"""Lightning's Trainer from `training.trainer.*`, with its refusals in our words."""

import logging
import os
import warnings
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.fabric.utilities.exceptions import MisconfigurationException

from naics_job.config.schema import Config
from naics_job.errors import ConfigError
from naics_job.training.build import trains_on_gpu

NOISE = (  # Lightning's remarks on choices that are made on purpose here
    ".*does not have many workers.*",
    ".*LeafSpec.* is deprecated.*",
    ".*module.* in eval mode at the start of training.*",  # the frozen base encoder
    ".*find_unused_parameters=True was specified.*",  # see _repeatable
)


def is_logged(trainer: pl.Trainer, step: int) -> bool:
    """Whether Lightning logs the step that is the `step`-th to be done."""
    every = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return bool(every) and step % every == 0


def make_trainer(config: Config, **parts: Any) -> pl.Trainer:
    """A Trainer with `training.trainer.*` and the given callbacks, loggers and plugins.

    A step is one batch whatever accumulation is set: its texts are encoded in that many parts, see
    `StepEncoder.parts`. Else `parts` win over the settings.

    Raises:
        ConfigError: Lightning refuses a setting, for example a GPU on a machine without one.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for pattern in NOISE:
        warnings.filterwarnings("ignore", pattern)
    arguments = dict(config.training.trainer)
    on_gpu = trains_on_gpu(config)
    if arguments.get("precision") == "auto":
        arguments["precision"] = "16-mixed" if on_gpu else "32-true"
    if config.training.repeats_batches:  # Lightning's way replaces the sampler; ours does not
        arguments["limit_train_batches"] = arguments.pop("overfit_batches")
    arguments.update(as_launched(arguments), accumulate_grad_batches=1)
    if not on_gpu and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        arguments["strategy"] = _repeatable(arguments.get("strategy"))
    arguments["enable_model_summary"] = bool(arguments.get("enable_model_summary"))
    arguments["enable_progress_bar"] = False  # ours knows the phases
    try:
        trainer = pl.Trainer(
            **{**arguments, **parts},
            enable_checkpointing=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
        )
        # Lightning's handler of SIGTERM waits for other processes inside of itself, and each of its
        # steps waits for the device to ask whether one came. `stopping` needs neither.
        trainer._signal_connector.register_signal_handlers = _leave  # type: ignore[method-assign]
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _leave  # type: ignore[method-assign]
        return trainer
    except (MisconfigurationException, ValueError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"Lightning's Trainer refuses training.trainer: {reason}",
            "compare training.trainer.* with this machine and the documentation of the Trainer",
        ) from error


def _leave() -> None:
    """Do nothing about signals."""


def _repeatable(strategy: Any) -> Any:
    """The strategy, such that gradients do not depend on when the process began.

    After its first step DDP sorts gradients into other buckets. gloo adds up what three or more
    processes have in an order that follows from the place in a bucket, so the first step after a
    resume would differ in the last digits from that of a run which went on. Where DDP looks for
    parameters without a gradient, of which there are none, the buckets stay.
    """
    return "ddp_find_unused_parameters_true" if strategy in (None, "auto", "ddp") else strategy


def as_launched(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Devices and machines as torchrun has started them, which is what Lightning insists on.

    The command that starts a run may ask for other numbers than the settings. A list of devices of
    the right length stays.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return {}
    world, local = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
    devices = arguments.get("devices")
    chosen = devices.split(",") if isinstance(devices, str) and "," in devices else devices
    fits = isinstance(chosen, list | tuple) and len(chosen) == local
    return {"devices": devices if fits else local, "num_nodes": world // local}


def check_trainer(config: Config) -> None:
    """Refuse settings that no Trainer takes here, before anything is computed.

    Raises:
        ConfigError: see `make_trainer`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the real one says it again
        make_trainer(config, logger=False)
