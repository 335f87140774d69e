"""How many processes a run takes on this machine, and how many it was started in."""

import os

from naics_job.config.schema import Config
from naics_job.errors import ConfigError
from naics_job.launch.devices import num_gpus

EVERY_DEVICE = (-1, "-1", "auto")
LAUNCHED = "TORCHELASTIC_RUN_ID"  # set by torchrun, also around a single process


def is_launched() -> bool:
    """Whether a launcher has started this process as one of the processes of a run."""
    text = os.environ.get("WORLD_SIZE", "")
    return LAUNCHED in os.environ or (text.isdigit() and int(text) > 1)


def wanted_processes(config: Config) -> int:
    """Processes that `training.trainer.*` asks for on this machine: one per device."""
    trainer = config.training.trainer
    devices = trainer.get("devices", 1)
    if devices in EVERY_DEVICE:
        return max(1, num_gpus()) if trainer.get("accelerator", "auto") != "cpu" else 1
    if isinstance(devices, str) and devices.isdigit():
        return int(devices)
    if isinstance(devices, str):
        return len([part for part in devices.split(",") if part.strip()])
    return len(devices) if isinstance(devices, list | tuple) else max(1, int(devices))


def require_one_machine(config: Config) -> None:
    """Refuse a run on several machines that was started without a launcher.

    Raises:
        ConfigError: which one command cannot start.
    """
    num_nodes = int(config.training.trainer.get("num_nodes") or 1)
    if num_nodes > 1:
        raise ConfigError(
            f"training.trainer.num_nodes={num_nodes}, but no launcher announced "
            "processes (WORLD_SIZE)",
            "start on every machine: naics-embedder launch --nnodes N --node-rank R "
            "--rdzv-endpoint HOST:PORT -- train ...",
        )
