"""How many anchors an optimizer step has, and in how many pieces their texts are encoded.

A micro-batch is what a process encodes at once. How many there are decides memory and time and
nothing else: the step is the same (`model.encoder.TextEncoder`). Training and `tools config` both
ask here, so that what is shown is what is run.
"""

from dataclasses import dataclass

from naics_job.config.schema import Config
from naics_job.errors import ConfigError

ACCUMULATE = "training.trainer.accumulate_grad_batches"


@dataclass(frozen=True)
class BatchPlan:
    """Anchors of one optimizer step over all processes, and the pieces it is encoded in."""

    global_batch_size: int
    micro_batches: int  # of each process


def plan_batches(config: Config, num_processes: int, frozen: int | None = None) -> BatchPlan:
    """The batches of a run of `num_processes`.

    The global batch is the one `frozen` at the first start of the run, else
    `data_loader.global_batch_size`, else what batch size, processes and accumulation add up to.
    Where it is given, the micro-batches follow from `data_loader.batch_size`, which a smaller
    global batch does not fill.

    Raises:
        ConfigError: a given global batch does not divide, or another accumulation was set.
    """
    size, asked = config.data_loader.batch_size, config.training.accumulate_grad_batches
    given = frozen or config.data_loader.global_batch_size
    if given is None:
        return BatchPlan(size * num_processes * asked, asked)
    origin = f"data_loader.global_batch_size={given}"
    if frozen:
        origin = f"the global batch of {given} anchors, fixed at the first start of the run,"
    together = min(size * num_processes, given)
    if given % num_processes or given % together:
        raise ConfigError(
            f"{origin} cannot be cut into micro-batches of data_loader.batch_size={size} on "
            f"{num_processes} processes",
            _sizes_to_try(given, num_processes, size, fixed=frozen is not None),
        )
    derived = given // together
    if asked not in (1, derived):
        raise ConfigError(
            f"{ACCUMULATE}={asked} contradicts {origin} with data_loader.batch_size={size} on "
            f"{num_processes} processes: that makes {derived} micro-batches",
            f"set {ACCUMULATE}=1, then it is worked out, or {derived}",
        )
    return BatchPlan(given, derived)


def _sizes_to_try(given: int, num_processes: int, size: int, fixed: bool) -> str:
    """Values next to those that do not divide."""
    if given % num_processes:
        if fixed:
            return f"resume on a number of processes that divides {given}"
        below = given // num_processes * num_processes
        whole = [str(value) for value in (below, below + num_processes) if value]
        return f"try data_loader.global_batch_size={' or '.join(whole)}"
    share = given // num_processes
    divisors = [value for value in range(1, share + 1) if share % value == 0]
    below = max(value for value in divisors if value <= size)
    above = [value for value in divisors if value > size][:1]
    return f"try data_loader.batch_size={' or '.join(map(str, [below, *above]))}"
