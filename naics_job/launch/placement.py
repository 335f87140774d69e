"""Where this launcher stands in the run: processes here, machines in all, and where they meet.

Options of the command come first, then what an operator injects: PET_* and MASTER_* of the Kubeflow
training operator and Trainer, whose RANK counts machines, not processes. Then the settings.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from naics_job.config.schema import Config
from naics_job.errors import ConfigError
from naics_job.launch.cpus import num_cpus
from naics_job.launch.devices import num_gpus
from naics_job.launch.processes import LAUNCHED, wanted_processes

DEFAULT_PORT = 29400  # torchrun's
NODES = re.compile(r"(\d+)(?::(\d+))?")
ENDPOINT = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.%\w]+)\]|(?P<host>[^:\s/]+))(?::(?P<port>\d+))?")
POD = re.compile(r"(.*-)(\d+)")  # pods of a job differ in the number at the end of their names
BACKEND = "c10d"
OWN = ("PET_", "TORCHELASTIC_")  # prefixes of what torchrun would read or inherit
PLACES = ("MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK")
SIZES = ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE", "ROLE_NAME")


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """The options of the command; None where left out."""

    nproc_per_node: str | None = None
    nnodes: str | None = None
    node_rank: int | None = None
    rdzv_endpoint: str | None = None


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What torchrun needs to know on this machine."""

    num_processes: int  # on this machine
    min_nodes: int
    max_nodes: int
    node_rank: int
    host: str  # of the rendezvous; empty on one machine
    port: int
    run_id: str
    rendezvous_options: dict[str, str]

    @property
    def alone(self) -> bool:
        """Whether the run stays on this machine."""
        return self.max_nodes == 1

    @property
    def is_first(self) -> bool:
        """Whether this machine holds the rendezvous and writes what is written once."""
        return self.node_rank == 0


def place(
    options: LaunchOptions, config: Config, environ: Mapping[str, str], hostname: str
) -> Placement:
    """Work out the placement.

    Raises:
        ConfigError: a value is none, or two contradict each other.
    """
    if LAUNCHED in environ:
        hint = "start the launcher itself, it starts torchrun; or run train under torchrun"
        raise ConfigError("launch was started by torchrun", hint)
    given = {name: text.strip() for name, text in environ.items() if text.strip()}
    backend = given.get("PET_RDZV_BACKEND", BACKEND)
    if backend != BACKEND:
        raise ConfigError(f"PET_RDZV_BACKEND={backend} is not supported", f"set it to {BACKEND}")
    processes = _num_processes(options, config, given)
    low, high = _num_nodes(options, config, given)
    host, port = _endpoint(options, given) if high > 1 else ("", 0)
    return Placement(
        num_processes=processes,
        min_nodes=low,
        max_nodes=high,
        node_rank=_node_rank(options, given, high, host, hostname),
        host=host,
        port=port,
        run_id=given.get("PET_RDZV_ID") or given.get("NAICS_JOB_NAME") or config.experiment_name,
        rendezvous_options=_pairs(given.get("PET_RDZV_CONF", "")),
    )


def here(config: Config, num_processes: int) -> Placement:
    """The placement of a run on this machine alone, whatever the environment says."""
    return Placement(
        num_processes=num_processes, min_nodes=1, max_nodes=1, node_rank=0, host="", port=0,
        run_id=config.experiment_name, rendezvous_options={},
    )  # fmt: skip


def without_places(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment without what torchrun would take for its own.

    PET_* would overrule or crash it (PET_STANDALONE=""), and the operator's RANK is no process's.
    """
    hidden = (*PLACES, *SIZES)
    return {k: v for k, v in environ.items() if k not in hidden and not k.startswith(OWN)}


def _num_processes(options: LaunchOptions, config: Config, given: Mapping[str, str]) -> int:
    where, text = _first("--nproc-per-node", options.nproc_per_node, given, "PET_NPROC_PER_NODE")
    if text is None:
        return wanted_processes(config)
    on_cpu = config.training.trainer.get("accelerator", "auto") == "cpu"
    if text == "auto":
        return 1 if on_cpu else max(1, num_gpus())
    if text == "cpu":
        return num_cpus()
    count = num_gpus() if text == "gpu" else int(text) if text.isdecimal() else 0
    if count < 1:
        reason = "no GPU was found" if text == "gpu" else "it must be a number, auto, gpu or cpu"
        raise ConfigError(f"{where}={text}: {reason}", "auto takes every GPU, and 1 without any")
    return count


def _num_nodes(options: LaunchOptions, config: Config, given: Mapping[str, str]) -> tuple[int, int]:
    where, text = _first("--nnodes", options.nnodes, given, "PET_NNODES")
    if text is None:
        return (_announced(given) or int(config.training.trainer.get("num_nodes") or 1),) * 2
    match = NODES.fullmatch(text)
    low = int(match[1]) if match else 0
    high = int(match[2]) if match and match[2] else low
    if not 1 <= low <= high:
        hint = "it is a number of machines, or MIN:MAX for an elastic job"
        raise ConfigError(f"{where}={text} is no number of machines", hint)
    return low, high


def _announced(given: Mapping[str, str]) -> int:
    """Machines of a job whose operator sets WORLD_SIZE only, 0 without one: it counts processes."""
    size = given.get("WORLD_SIZE")
    if size is None:
        return 0
    each = given.get("PET_NPROC_PER_NODE", "")
    per_node = int(each) if each.isdecimal() else 1
    if not size.isdecimal() or int(size) < 1 or per_node < 1 or int(size) % per_node:
        text = f"WORLD_SIZE={size} is no multiple of PET_NPROC_PER_NODE={per_node}"
        raise ConfigError(text, "give --nnodes")
    return int(size) // per_node


def _endpoint(options: LaunchOptions, given: Mapping[str, str]) -> tuple[str, int]:
    where, text = _first("--rdzv-endpoint", options.rdzv_endpoint, given, "PET_RDZV_ENDPOINT")
    for prefix in ("PET_MASTER", "MASTER"):
        if text is None and (address := given.get(f"{prefix}_ADDR")):
            where = f"{prefix}_ADDR and {prefix}_PORT"
            bare = f"[{address}]" if ":" in address else address
            text = f"{bare}:{given.get(f'{prefix}_PORT', DEFAULT_PORT)}"
    if text is None:
        raise ConfigError(
            "several machines (--nnodes, PET_NNODES), but nowhere to meet",
            f"give --rdzv-endpoint HOST:{DEFAULT_PORT} with the name of the first machine, such as "
            "<job>-worker-0; a Worker-only PyTorchJob without elasticPolicy sets none",
        )
    match = ENDPOINT.fullmatch(text)
    port = int(match["port"] or DEFAULT_PORT) if match else 0
    if match is None or not 1 <= port <= 65535:
        hint = f"write HOST:PORT, such as job-worker-0:{DEFAULT_PORT}"
        raise ConfigError(f"{where}={text} is no endpoint", hint)
    return match["six"] or match["host"], port


def _node_rank(
    options: LaunchOptions, given: Mapping[str, str], nodes: int, host: str, hostname: str
) -> int:
    own = None if options.node_rank is None else str(options.node_rank)
    where, text = _first("--node-rank", own, given, "PET_NODE_RANK", "RANK")
    if text is None:
        text = "0" if nodes == 1 else _rank_of_name(host, hostname)
    if text is None:
        hint = "give --node-rank, 0 on the machine that --rdzv-endpoint names"
        raise ConfigError(f"cannot tell which of {nodes} machines {hostname} is", hint)
    if not text.isdecimal() or int(text) >= nodes:
        hint = f"machines are numbered from 0 to {nodes - 1} (--nnodes)"
        raise ConfigError(f"{where}={text} is no machine of {nodes}", hint)
    return int(text)


def _rank_of_name(host: str, hostname: str) -> str | None:
    """The number of this pod, when the endpoint names pod 0 of the same job."""
    first, own = host.partition(".")[0], hostname.partition(".")[0]
    if first == own:
        return "0"
    theirs, ours = POD.fullmatch(first), POD.fullmatch(own)
    if theirs is None or ours is None or theirs[1] != ours[1] or theirs[2] != "0":
        return None
    return str(int(ours[2]))


def _first(
    option: str, value: str | None, given: Mapping[str, str], *names: str
) -> tuple[str, str | None]:
    """Where the value comes from and what it is: the option's, or that of the first variable."""
    if value is not None:
        return option, value
    return next(((name, given[name]) for name in names if name in given), (option, None))


def _pairs(text: str) -> dict[str, str]:
    pairs = dict(part.partition("=")[::2] for part in text.split(",") if part)
    if any(not name.strip() or not value.strip() for name, value in pairs.items()):
        raise ConfigError(f"PET_RDZV_CONF={text} is not allowed", "write KEY=VALUE,KEY=VALUE")
    return {name.strip(): value.strip() for name, value in pairs.items()}
