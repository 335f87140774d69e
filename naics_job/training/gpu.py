"""`tools gpu`: the batch size that fits, measured on a GPU or estimated without one."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from naics_job.config.schema import Config
from naics_job.data.prepare import load_dataset, prepare_all
from naics_job.errors import ConfigError, DataError
from naics_job.model.encoder import check_max_tokens
from naics_job.model.weights import BaseWeights, max_positions, resolve_base
from naics_job.storage.files import cache_folder
from naics_job.training.memory_model import MemoryModel, measure_model
from naics_job.training.memory_probe import Probed, expected_bytes, half_precision, probe_cuda
from naics_job.training.step_load import StepLoad, StepLoads, loads_from_data, loads_from_settings
from naics_job.training.unencoded import unencoded_inputs

GIB = 2**30
USABLE = 0.9  # of the memory; the rest is for fragmentation and what an estimate misses
LARGEST_BATCH = 4096
WIDTH = 15  # of a column
BATCH_SIZE = "data_loader.batch_size"
GLOBAL_BATCH_SIZE = "data_loader.global_batch_size"
ACCUMULATE = "training.trainer.accumulate_grad_batches"


@dataclass(frozen=True)
class Advice:
    """What to set, and why."""

    text: str
    batch_size: int  # anchors whose texts a process encodes at once
    accumulate_grad_batches: int
    global_batch_size: int | None  # to be set as well; None: it is not set

    @property
    def settings(self) -> dict[str, int]:
        """The suggested values by dotted key."""
        found = {BATCH_SIZE: self.batch_size, ACCUMULATE: self.accumulate_grad_batches}
        if self.global_batch_size is not None:
            found[GLOBAL_BATCH_SIZE] = self.global_batch_size
        return found


@dataclass(frozen=True)
class Fit:
    """Memory by batch size; `peak_bytes` None where it ran out."""

    heading: list[str]
    rows: list[Probed]
    verb: str  # measured | estimated


def advise(
    config: Config,
    auto: bool,
    gpu_memory_gib: float | None,
    target_effective_batch: int | None,
) -> Advice:
    """Suggest batch size and accumulation for steps that train the encoder.

    With given anchors per step they change memory and time and nothing else: the batch size is
    how many anchors have their texts encoded at once, and the accumulation how often that is done.

    Args:
        config: the settings.
        auto: run real steps if this machine has a CUDA device.
        gpu_memory_gib: memory of the GPU to plan for; None: that of this machine's.
        target_effective_batch: anchors per optimizer step over all processes. None:
            `data_loader.global_batch_size`, or whatever fits without accumulation.

    Raises:
        ConfigError: there is neither a GPU nor a size given, or not even one anchor fits.
    """
    memory = _memory_bytes(gpu_memory_gib)
    target = target_effective_batch or config.data_loader.global_batch_size
    base = resolve_base(config.model, cache_folder(config.dirs.data_dir) / "models")
    check_max_tokens(config.data_loader.tokenization.max_tokens, max_positions(base.folder))
    measure = _measured if auto and torch.cuda.is_available() else _estimated
    fit = measure(config, base, memory, target)
    largest = largest_fitting(fit.rows, memory * USABLE)
    processes = num_processes(config)
    size, accumulate = suggestion(largest, target, processes)
    effective = size * accumulate * processes
    fixed = effective if config.data_loader.global_batch_size is not None else None
    lines = [*fit.heading, "", *_table(fit, memory), ""]
    lines += _conclusion(size, accumulate, processes, target)
    return Advice("\n".join(lines), size, accumulate, fixed)


def _memory_bytes(gpu_memory_gib: float | None) -> float:
    if gpu_memory_gib is not None:
        return gpu_memory_gib * GIB
    if torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info()
        return float(free + torch.cuda.memory_reserved())
    raise ConfigError(
        "this machine has no CUDA device, so nothing can be measured",
        "give the memory of the GPU that will train, in GiB: --gpu-memory 16",
    )


def num_processes(config: Config) -> int:
    """Processes that `training.trainer` starts, as far as it and this machine tell."""
    devices: Any = config.training.trainer.get("devices", 1)
    if isinstance(devices, str) and devices != "auto":
        devices = devices.split(",")
    if isinstance(devices, list | tuple):
        devices = len(devices)
    if devices in ("auto", -1):
        devices = max(1, torch.cuda.device_count())
    return int(devices) * int(config.training.trainer.get("num_nodes", 1))


def wanted_loads(loads: StepLoads, target: int | None, processes: int) -> Iterator[StepLoad]:
    """Loads of 1, 2, 4, ... anchors per process and micro-batch.

    Up to the number of anchors there are, or with a `target` up to its share of one process. A step
    has `target` anchors, or where there is none those of one micro-batch on each process.
    """
    most = min(LARGEST_BATCH, loads.max_batch_size)
    sizes = [2**power for power in range(most.bit_length())]
    if target is not None:
        share = math.ceil(target / processes)
        sizes = [size for size in sizes if size < share] + [share] * (share <= LARGEST_BATCH)
    for size in sizes:
        yield loads.of(size, target or size * processes)


def largest_fitting(rows: list[Probed], limit_bytes: float) -> int:
    """The largest batch size of which it and all smaller ones stay within `limit_bytes`.

    Raises:
        ConfigError: none does.
    """
    largest = 0
    for row in rows:
        if row.peak_bytes is None or row.peak_bytes > limit_bytes:
            break
        largest = row.load.batch_size
    if largest == 0:
        raise ConfigError(
            f"not even a step of one anchor fits into {limit_bytes / GIB:.1f} GiB "
            f"({USABLE:.0%} of the memory)",
            "lower data_loader.queries.per_anchor, data_loader.tokenization.max_tokens.description "
            "or the anchors per step, or set model.gradient_checkpointing=true",
        )
    return largest


def suggestion(largest: int, target: int | None, processes: int) -> tuple[int, int]:
    """Batch size up to `largest` and accumulation that reach `target` anchors per optimizer step.

    The exact target if it can be had with at most twice the fewest micro-batches, else the next
    number of anchors above it.
    """
    if target is None:
        return largest, 1
    fewest = max(1, math.ceil(target / (largest * processes)))
    for accumulate in range(fewest, 2 * fewest + 1):
        if target % (accumulate * processes) == 0:
            return target // (accumulate * processes), accumulate
    return math.ceil(target / (fewest * processes)), fewest


def _measured(config: Config, base: BaseWeights, memory: float, target: int | None) -> Fit:
    prepare_all(config)
    inputs = unencoded_inputs(config, load_dataset(config), base)
    loads = loads_from_data(config, inputs)
    wanted = list(wanted_loads(loads, target, num_processes(config)))
    rows = probe_cuda(config, inputs, wanted, memory * USABLE)
    if len(rows) < len(wanted) and rows[-1].peak_bytes is not None:
        left = wanted[len(rows)]  # not tried: the line through the last two says it is too much
        beyond = expected_bytes(rows, left)
        rows += [Probed(left, int(beyond))] if beyond > memory * USABLE else []
    device = torch.cuda.get_device_name()
    heading = [
        f"measured on {device} with {memory / GIB:.1f} GiB: steps that train the encoder",
        f"texts, codes and tokens: {loads.source}",
    ]
    return Fit(heading, rows, "measured")


def _estimated(config: Config, base: BaseWeights, memory: float, target: int | None) -> Fit:
    loads, processes = _loads(config, base), num_processes(config)
    half = half_precision(config, on_gpu=True)
    model = measure_model(config, base, loads, half, processes)
    rows = []
    for load in wanted_loads(loads, target, processes):
        rows.append(Probed(load, model.estimate(load)))
        if rows[-1].peak_bytes is not None and rows[-1].peak_bytes > memory:
            break
    missing = "there is no CUDA device on this machine"
    reason = "--auto measures it" if torch.cuda.is_available() else missing
    heading = [
        f"estimated for a GPU of {memory / GIB:.1f} GiB, not measured: {reason}",
        *_model_lines(model, half),
        f"texts, codes and tokens: {loads.source}",
    ]
    return Fit(heading, rows, "estimated")


def _loads(config: Config, base: BaseWeights) -> StepLoads:
    try:
        data = load_dataset(config)
    except DataError:  # nothing prepared yet, or with other settings: limits instead of counts
        return loads_from_settings(config)
    return loads_from_data(config, unencoded_inputs(config, data, base))


def _model_lines(model: MemoryModel, half: bool) -> list[str]:
    fixed = model.fixed
    parts = {
        "weights": fixed.weights,
        "gradients": fixed.gradients,
        "optimizer": fixed.optimizer,
        "cached features and memory bank": fixed.features,
        "CUDA context, assumed": fixed.context,
    }
    listed = ", ".join(f"{name} {value / 2**20:,.0f}" for name, value in parts.items())
    precision = "16-bit mixed precision" if half else "32-bit precision"
    return [
        "steps that train the encoder, counted on this CPU: autograd keeps "
        f"{model.token / 1000:,.1f} kB per token in {precision}",
        f"always there, in MiB: {listed}",
    ]


def _table(fit: Fit, memory: float) -> list[str]:
    titles = ("batch size", "anchors", "texts", "unique codes", "tokens at once", "memory GiB")
    lines = ["".join(f"{title:>{WIDTH}}" for title in titles)]
    for row in fit.rows:
        load: StepLoad = row.load
        if row.peak_bytes is None:
            shown, verdict = "-", "out of memory"
        else:
            shown = f"{row.peak_bytes / GIB:.2f}"
            verdict = "fits" if row.peak_bytes <= memory * USABLE else "too much"
        counts = (load.batch_size, load.anchors, load.texts, load.codes, load.tokens)
        numbers = "".join(f"{count:>{WIDTH},}" for count in counts)
        lines.append(f"{numbers}{shown:>{WIDTH}}  {verdict}")
    room = f"{memory * USABLE / GIB:.2f} GiB, {USABLE:.0%} of {memory / GIB:.1f} GiB"
    return [
        *lines,
        f"fits: {fit.verb} at most {room}",
        "batch size: anchors whose texts a process encodes at once",
        "anchors, texts, unique codes: of the whole step",
    ]


def _conclusion(size: int, accumulate: int, processes: int, target: int | None) -> list[str]:
    effective = size * accumulate * processes
    lines = [
        f"suggested: {BATCH_SIZE}={size} {ACCUMULATE}={accumulate}",
        f"anchors per optimizer step: {size} (batch size) x {accumulate} (micro-batches) x "
        f"{processes} (processes) = {effective}",
    ]
    if target is not None and effective != target:
        lines.append(f"{target} cannot be cut into equal parts that use the memory well")
    if accumulate > 1:
        lines.append("each micro-batch is encoded twice, the second time for its gradients")
    if target is not None:
        lines.append(
            f"with {GLOBAL_BATCH_SIZE}={effective} a smaller {BATCH_SIZE} is the same step in more "
            "micro-batches: less memory, more time"
        )
    return lines
