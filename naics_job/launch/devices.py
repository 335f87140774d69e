"""Count the GPUs that this process may use, without torch: the launcher stays small and quick."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

DRIVER_LIST = Path("/proc/driver/nvidia/gpus")
COMMAND = ("nvidia-smi", "-L")
PATIENCE_S = 30  # the first call of a machine may have to load the driver
NAME = re.compile(r"\d+|(GPU|MIG)-\S+")


def num_gpus(environ: Mapping[str, str] = os.environ, driver_list: Path = DRIVER_LIST) -> int:
    """Number of NVIDIA GPUs, 0 without any.

    CUDA_VISIBLE_DEVICES counts as CUDA reads it: up to the first entry that is no device.
    """
    present = _present(environ, driver_list)
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or present == 0:
        return present
    chosen = 0
    for entry in visible.split(","):
        name = entry.strip()
        if not NAME.fullmatch(name) or (name.isdecimal() and int(name) >= present):
            break
        chosen += 1
    return chosen


def _present(environ: Mapping[str, str], driver_list: Path) -> int:
    """GPUs of this machine or container.

    The command comes first: the driver's list may show a container the GPUs of the whole machine.
    """
    try:
        listing = subprocess.run(
            COMMAND, env=environ, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return len(list(driver_list.iterdir())) if driver_list.is_dir() else 0
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines())
