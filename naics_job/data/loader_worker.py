"""What runs in the processes of the loader; it needs no Lightning and opens no storage.

A worker starts from a fork server that has imported this module. It holds the arrays of the data
set, opens no file, and sends batches through a pipe: no shared memory that somebody must remove.
"""

import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing import util
from multiprocessing.process import BaseProcess
from typing import Any

from torch.utils.data import Dataset

from naics_job.data.sampler import AnchorBatch, EpochOrder, PositiveSampler, RowDraws
from naics_job.errors import ConfigError, TransientError

Step = tuple[int, int]  # epoch, global batch within it
# For one batch, which takes milliseconds, the start of the workers included. PyTorch notices a
# worker that was killed only when this is over.
TIMEOUT_S = 300.0


class AnchorDataset(Dataset[AnchorBatch]):
    """Global batches by (epoch, number): a pure function, so any worker can make any of them.

    With `repeat` every epoch has the anchors and positives of the first.
    """

    def __init__(self, order: EpochOrder, positives: PositiveSampler, repeat: bool = False) -> None:
        self.order, self.positives, self.repeat = order, positives, repeat
        self.rows = order.global_batch_size

    def __len__(self) -> int:
        return self.order.num_batches

    def __getitem__(self, step: Step) -> AnchorBatch:
        if not isinstance(step, tuple):
            raise ConfigError(
                "the sampler of the training batches was replaced, batches would repeat",
                "construct the Trainer with use_distributed_sampler=False",
            )
        epoch, index = step
        drawn = 0 if self.repeat else epoch
        anchors = self.order.batch(drawn, index)
        draws = RowDraws(self.order.seed, drawn, index, 0, len(anchors))
        return AnchorBatch(epoch, index, anchors, *self.positives.draw(anchors, draws))


def as_it_is(batch: Any) -> Any:
    """In place of a collate function: the batch was made whole."""
    return batch


def hiccups(batches: Iterator[AnchorBatch]) -> Iterator[AnchorBatch]:
    """The same batches; what PyTorch says of workers that were killed or hang is made ours.

    Raises:
        TransientError: a worker has ended, or made no batch for `TIMEOUT_S`.
    """
    try:
        yield from batches
    except RuntimeError as error:
        if not str(error).startswith("DataLoader"):
            raise
        text = f"the batches stopped: {str(error).partition(chr(10))[0]}"
        hint = "look for a lack of memory; data_loader.num_workers=0 needs least"
        raise TransientError(text, hint) from error


def end_with_training() -> "partial[None]":
    """For `worker_init_fn`: let a worker end when this process does, however that ends.

    PyTorch's workers look whether their parent has changed; under a fork server that is the server,
    which itself stays as long as a worker does: of a killed run, all of them would stay for good.
    The folder of the server's socket, which a killed process cannot remove, goes with them.
    """
    return partial(_follow, util.get_temp_dir())


def _follow(socket_folder: str, worker: int) -> None:
    training = multiprocessing.parent_process()
    assert training is not None
    threading.Thread(target=_wait, args=(training, socket_folder), daemon=True).start()


def _wait(training: BaseProcess, socket_folder: str) -> None:
    training.join()  # its end of a pipe closes: it has ended, is ending, or dropped the loader
    for _ in range(100):
        if not _is_there(training.pid):
            shutil.rmtree(socket_folder, ignore_errors=True)
            break
        time.sleep(0.1)
    os._exit(1)


def _is_there(pid: int | None) -> bool:
    try:
        os.kill(pid or 0, 0)
    except ProcessLookupError:
        return False
    return True
