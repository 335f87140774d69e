"""How many processes a run takes on this machine, and how many it was started in."""

import os

from naics_job.config.schema import Config
from naics_job.errors import ConfigError

EVERY_DEVICE = (-1, "-1", "auto")


def announced_processes() -> int:
    """Number of processes that a launcher announced in the environment, 1 without one."""
    text = os.environ.get("WORLD_SIZE", "")
    return int(text) if text.isdigit() else 1


def wanted_processes(config: Config) -> int:
    """Processes that `training.trainer.*` asks for on this machine: one per device.

    Raises:
        ConfigError: several machines are asked for, which one command cannot start.
    """
    trainer = config.training.trainer
    if int(trainer.get("num_nodes") or 1) > 1:
        raise ConfigError(
            f"training.trainer.num_nodes={trainer['num_nodes']}, but no launcher announced "
            "processes (WORLD_SIZE)",
            "start the command on every node with torchrun: torchrun --nnodes N --nproc-per-node M "
            "--rdzv-backend c10d --rdzv-endpoint HOST:PORT -m naics_job.cli.app train ...",
        )
    devices = trainer.get("devices", 1)
    if devices in EVERY_DEVICE:
        return _num_gpus() if trainer.get("accelerator", "auto") != "cpu" else 1
    if isinstance(devices, str) and devices.isdigit():
        return int(devices)
    if isinstance(devices, str):
        return len([part for part in devices.split(",") if part.strip()])
    return len(devices) if isinstance(devices, list | tuple) else max(1, int(devices))


def _num_gpus() -> int:
    import torch

    return max(1, torch.cuda.device_count())
