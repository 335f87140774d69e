"""The command and the environment that torchrun is started with."""

import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from naics_job.config.launch_schema import LaunchConfig
from naics_job.launch.cpus import num_cpus
from naics_job.launch.placement import BACKEND, Placement, without_places
from naics_job.observability.heartbeat import FOLDER_VARIABLE

MODULE = "naics_job.cli.app"
LOCAL = "127.0.0.1"
LATER = "~"  # sorts behind every letter and digit of a host name
MARGIN_S = 5  # that the launcher keeps of the grace period for itself


def torchrun_command(
    placement: Placement, arguments: Sequence[str], config: LaunchConfig
) -> list[str]:
    """The command that runs `naics-embedder ARGUMENTS` in every process of this machine.

    Everything is a flag, nothing is left to the environment. Nothing is restarted inside: that is
    for whoever started the launcher, from a checkpoint. The first machine always holds the
    rendezvous; torchrun alone would compare host names, which fails for an alias. It also names
    itself as the others know it, because the processes of all machines will connect to that name.

    torchrun numbers machines by the order of their names. The others therefore get names, which
    nobody connects to, in the order of their numbers and behind the first one's: ranks that moved
    over a restart would add the same gradients up in another order.
    """
    shutdown = max(1, round(config.grace_s - MARGIN_S))
    options = dict(placement.rendezvous_options)
    if placement.alone:
        nodes, endpoint, run_id = "1", f"{LOCAL}:0", uuid.uuid4().hex
        options["is_host"], own_name = "1", LOCAL
    else:
        nodes = f"{placement.min_nodes}:{placement.max_nodes}"
        host = f"[{placement.host}]" if ":" in placement.host else placement.host
        endpoint, run_id = f"{host}:{placement.port}", placement.run_id
        options["is_host"] = "1" if placement.is_first else "0"
        options.setdefault("join_timeout", str(round(config.rendezvous_timeout_s)))
        own_name = placement.host if placement.is_first else f"{LATER}{placement.node_rank:06d}"
    return [
        *(sys.executable, "-m", "torch.distributed.run"),
        *(f"--nnodes={nodes}", f"--nproc-per-node={placement.num_processes}"),
        *(f"--rdzv-backend={BACKEND}", f"--rdzv-endpoint={endpoint}", f"--rdzv-id={run_id}"),
        "--rdzv-conf=" + ",".join(f"{name}={value}" for name, value in options.items()),
        *("--max-restarts=0", f"--shutdown-timeout={shutdown}", f"--local-addr={own_name}"),
        *("-m", MODULE, *arguments),
    ]


def torchrun_environment(placement: Placement, folder: Path) -> dict[str, str]:
    """The environment for torchrun and the training processes, which report in `folder`."""
    threads = max(1, num_cpus() // placement.num_processes)
    return {"OMP_NUM_THREADS": str(threads), **without_places(), FOLDER_VARIABLE: str(folder)}
