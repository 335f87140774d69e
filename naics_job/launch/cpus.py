"""Count the processors that this container may use, not those of its machine.

A process that starts a thread for each of a node's 96 processors, and may use four, spends its time
in waiting for its turn; and numbers add up differently on a node with another count.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path

from naics_job.errors import ConfigError

CGROUPS = Path("/sys/fs/cgroup")
VARIABLE = "NAICS_CPUS"  # what the pod asks for, which a container cannot see; 0: nothing


def num_cpus(environ: Mapping[str, str] = os.environ, cgroups: Path = CGROUPS) -> int:
    """Number of processors, at least 1: of those it is bound to, of its quota, of its request.

    Raises:
        ConfigError: NAICS_CPUS is no whole number.
    """
    bound = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    counts = [len(bound(0)) if bound else os.cpu_count() or 1]
    if (quota := _quota(cgroups)) is not None:
        counts.append(math.ceil(quota))
    text = environ.get(VARIABLE, "0")
    if not text.isdecimal():
        raise ConfigError(f"{VARIABLE}={text} is no whole number", "unset it, or give a count")
    if int(text):
        counts.append(int(text))
    return max(1, min(counts))


def _quota(cgroups: Path) -> float | None:
    """Processors' worth of time that the container gets, None without a limit."""
    try:
        if (unified := cgroups / "cpu.max").is_file():
            limit, period = unified.read_text(encoding="ascii").split()
        else:
            limit, period = (
                (cgroups / "cpu" / f"cpu.cfs_{part}_us").read_text(encoding="ascii").strip()
                for part in ("quota", "period")
            )
    except OSError:  # another system, or one without control groups
        return None
    return int(limit) / int(period) if limit.isdecimal() and int(period) else None
