"""Processes of one run: who am I, and the one gather that keeps gradients."""

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor


def is_distributed() -> bool:
    """True inside an initialised process group of more than one process."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """Rank of this process, 0 outside a process group."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """Number of processes, 1 outside a process group."""
    return dist.get_world_size() if is_distributed() else 1


def is_main() -> bool:
    """True on the one process that writes files."""
    return rank() == 0


def share_of(num_rows: int) -> slice:
    """Rows of a list of `num_rows` that this process works on; shares differ by at most one row."""
    size, rest = divmod(num_rows, world_size())
    start = rank() * size + min(rank(), rest)
    return slice(start, start + size + (rank() < rest))


class _GatherRows(torch.autograd.Function):
    """All-gather whose backward sums the gradients that every process holds for our rows."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor) -> Tensor:
        parts = [torch.empty_like(padded) for _ in range(world_size())]
        dist.all_gather(parts, padded.contiguous())
        return torch.stack(parts)  # [world, rows, ...]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)  # gloo has no reduce-scatter; the pool is small
        return total[rank()]


def gather_rows(share: Tensor, num_rows: int) -> Tensor:
    """Put the shares `[rows of this process, ...]` of all processes together, `[num_rows, ...]`.

    `share` holds the rows `share_of(num_rows)`. Gradients flow back to the process that computed
    a row, summed over the processes that used it, which `torch.distributed.all_gather` does not do.
    """
    if not is_distributed():
        return share
    world = world_size()
    longest = -(-num_rows // world)
    padded = share.new_zeros((longest, *share.shape[1:]))
    padded[: share.shape[0]] = share
    gathered = cast(Tensor, _GatherRows.apply(padded))  # type: ignore[no-untyped-call]
    rest = num_rows % world
    counts = [num_rows // world + (process < rest) for process in range(world)]
    return torch.cat([gathered[process, :count] for process, count in enumerate(counts)])


def broadcast_object(value: object) -> object:
    """The main process's `value`, on every process."""
    if not is_distributed():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]
