"""Processes of one run: who am I, what all agree on, and the one gather that keeps gradients.

The launcher (torchrun, or an operator) says in the environment how many processes there are; they
join before anything else, so that every part of a run sees the same world.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from naics_job.errors import TransientError
from naics_job.stopping import Stop

T = TypeVar("T")
STOP_KEY, HEARD_KEY = "naics-job/stop", "naics-job/stop-heard"  # in the store of the processes
POLL_S = 0.5
HEARD_S = 5.0  # longest wait until all processes know of a signal
PATIENCE = timedelta(hours=2)  # one process may prepare data and features while the others wait


@contextmanager
def process_group(on_gpu: bool, stop: Stop) -> Iterator[None]:
    """Join the processes that were announced, for the length of the body; alone, do nothing.

    Tensors on the CPU go through gloo, those on a GPU through NCCL; with a GPU, this process's own
    one becomes the current device. A signal to one process reaches all, see `StopChannel`.

    Raises:
        TransientError: another process has gone away.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1" or dist.is_initialized():
        yield
        return
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    with peers_missed(stop):
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=PATIENCE)
    channel = StopChannel(stop)
    try:
        with peers_missed(stop):
            yield
    finally:
        channel.close()
        dist.destroy_process_group()


@contextmanager
def peers_missed(stop: Stop) -> Iterator[None]:
    """Tell a failure of the body that comes from the end of another process by its reason.

    Raises:
        StopNow: the others were told to stop, and so was this process by now.
        TransientError: another process has gone away.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        until = time.monotonic() + HEARD_S  # the news may come after the failure
        while stop.number is None and time.monotonic() < until:
            time.sleep(POLL_S / 5)
        stop.check()
        raise TransientError(
            f"lost the other processes of the run: {str(error).partition(chr(10))[0][:200]}",
            "one of them has ended first, its message says why",
        ) from error


class StopChannel:
    """Carries a signal from the process that was told to all others, whatever they do just now.

    A thread asks the store through which the processes found each other. It is no collective, which
    would have to wait for processes that prepare data while others wait for them.
    """

    def __init__(self, stop: Stop) -> None:
        self._stop, self._over = stop, threading.Event()
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        self._store = dist.TCPStore(  # type: ignore[attr-defined]
            address, port, is_master=False, timeout=timedelta(seconds=60)
        )
        self._heard = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="stop-channel", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening; after a signal, not before all have heard of it or some seconds."""
        if self._stop.number is not None:
            self._heard.wait(HEARD_S)
        self._over.set()
        self._thread.join()

    def _listen(self) -> None:
        told = False
        try:
            while not self._over.is_set():
                number = self._stop.noticed(POLL_S)
                if not told and (number is not None or self._store.check([STOP_KEY])):
                    told = True
                    self._tell(number)
                if told and self._store.add(HEARD_KEY, 0) >= dist.get_world_size():
                    self._heard.set()
        except RuntimeError:  # the store has gone away with the process that kept it
            self._heard.set()

    def _tell(self, number: int | None) -> None:
        """Tell the others what this process knows, or this process what the others know."""
        if number is not None:
            self._store.set(STOP_KEY, str(number))
        else:
            os.kill(os.getpid(), int(self._store.get(STOP_KEY)))  # handled by the main thread
        self._store.add(HEARD_KEY, 1)


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


def broadcast_object(value: T) -> T:
    """The main process's `value`, on every process."""
    if not is_distributed():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


@contextmanager
def main_first() -> Iterator[None]:
    """Run the body on the main process, then on the others, which find what it left on disk."""
    if is_distributed() and not is_main():
        dist.barrier()
    yield
    if is_distributed() and is_main():
        dist.barrier()


def largest(value: int) -> int:
    """The largest of all processes' values, on every process."""
    if not is_distributed():
        return value
    box = torch.tensor([value])
    dist.all_reduce(box, dist.ReduceOp.MAX)
    return int(box.item())
