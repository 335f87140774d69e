"""Training batches as a Lightning DataModule whose whole state is two numbers.

What Lightning 2.6 is relied on for, each shown by tests/integration/test_datamodule_resume.py:
it restores the DataModule before it asks for the loader; it creates the first iterator of a run
from the restored cursor and one more at the start of each later epoch; it announces the epoch to
`sampler.set_epoch`; it counts the batches of a resumed epoch from the number it had reached, so
that `len(loader)` stays the length of the whole epoch; it does not warn about a loader that has
`state_dict`.
"""

import multiprocessing
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from naics_job.config.schema import Config
from naics_job.data import loader_worker
from naics_job.data.loader_worker import AnchorDataset, Step
from naics_job.data.negatives import TreeNegativeSampler
from naics_job.data.prepare import NaicsData
from naics_job.data.sampler import (
    AnchorBatch,
    EpochOrder,
    PositiveSampler,
    SamplerPosition,
)
from naics_job.data.splits import split_families
from naics_job.errors import CheckpointError


class RemainingSteps(Sampler[Step]):
    """The batches of the current epoch that are not used up, in order.

    `position` is moved by what training has finished, not by what loader workers have fetched.
    """

    def __init__(self, dataset: AnchorDataset) -> None:
        self.num_steps, self.rows = len(dataset), dataset.rows
        self.position = SamplerPosition(epoch=0, position=0)

    def __iter__(self) -> Any:
        epoch, first = self.position.epoch, self.position.position // self.rows
        return iter([(epoch, number) for number in range(first, self.num_steps)])

    def __len__(self) -> int:
        return self.num_steps

    def set_epoch(self, epoch: int) -> None:
        """Start `epoch` from its beginning, unless it is the running one."""
        if epoch != self.position.epoch:
            self.position = SamplerPosition(epoch=epoch, position=0)


class AnchorLoader(DataLoader[AnchorBatch]):
    """A loader that Lightning takes for resumable; the DataModule holds the state."""

    def __iter__(self) -> Any:
        """As PyTorch's, but a worker that was killed or hangs is a `TransientError`."""
        return loader_worker.hiccups(super().__iter__())

    def state_dict(self) -> dict[str, int]:
        """Nothing: the DataModule's state is the same on every process, and is what is saved."""
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Nothing: the DataModule is restored before this loader exists."""


class NaicsDataModule(pl.LightningDataModule):
    """Order, positives, splits and the negative sampler of one run.

    Args:
        data: taxonomy, exclusions and positives.
        config: `data_loader`, `sampling`, `seed` and `training.trainer.overfit_batches` are read.
        global_batch_size: anchors per optimizer step, over all processes.

    Raises:
        ConfigError: more negatives are asked for than there are.
    """

    def __init__(self, data: NaicsData, config: Config, *, global_batch_size: int) -> None:
        super().__init__()
        self.taxonomy, self.num_workers = data.taxonomy, config.data_loader.num_workers
        loader = config.data_loader
        self.splits = split_families(
            data.taxonomy, loader.val_split, loader.test_split, config.seed
        )
        self.train = self.splits.train
        self.allowed = np.zeros(len(data.taxonomy), dtype=bool)  # [code]: not held out
        self.allowed[self.train] = True
        self.positives = PositiveSampler(data.triplets, self.allowed, config.sampling.positives)
        self.negatives = TreeNegativeSampler(data.taxonomy, data.exclusions, self.allowed)
        anchors = self.negatives.usable_anchors(
            self.positives.anchors, config.data_loader.num_negatives
        )
        self.order = EpochOrder(anchors, config.seed, global_batch_size)
        self.dataset = AnchorDataset(self.order, self.positives, config.training.repeats_batches)
        self.remaining = RemainingSteps(self.dataset)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps per epoch."""
        return self.order.num_batches

    @property
    def position(self) -> SamplerPosition:
        """What training has used up; the next batch is the one after it."""
        return self.remaining.position

    def set_epoch(self, epoch: int) -> None:
        """Start `epoch` from its beginning, unless it is the running one."""
        self.remaining.set_epoch(epoch)

    def record(self, batch: AnchorBatch, ends_epoch: bool = False) -> None:
        """Note that the step of `batch` is finished; call it before a checkpoint is written.

        `ends_epoch` says that Lightning stops the epoch here, before all batches are used up.
        """
        done = batch.index * self.order.global_batch_size + len(batch.anchors)
        if ends_epoch or done >= self.order.num_batches * self.order.global_batch_size:
            self.remaining.position = SamplerPosition(epoch=batch.epoch + 1, position=0)
        else:
            self.remaining.position = SamplerPosition(epoch=batch.epoch, position=done)

    def train_dataloader(self) -> AnchorLoader:
        """The rest of the current epoch, then whole epochs; the same batches on every process."""
        context = multiprocessing.get_context("forkserver")  # fork is unsafe once threads run
        context.set_forkserver_preload([loader_worker.__name__])  # import once, not in every worker
        return AnchorLoader(
            self.dataset,
            batch_size=None,
            sampler=self.remaining,
            num_workers=self.num_workers,
            collate_fn=loader_worker.as_it_is,
            worker_init_fn=loader_worker.end_with_training() if self.num_workers else None,
            timeout=loader_worker.TIMEOUT_S if self.num_workers else 0,
            generator=torch.Generator().manual_seed(0),  # else the global generator is advanced
            multiprocessing_context=context if self.num_workers else None,
            persistent_workers=self.num_workers > 0,
        )

    def transfer_batch_to_device(
        self, batch: AnchorBatch, device: torch.device, dataloader_idx: int
    ) -> AnchorBatch:
        """Positions stay NumPy arrays; the training step moves what it needs."""
        return batch

    def state_dict(self) -> dict[str, Any]:
        """The state to resume from: `epoch` and `position`."""
        return {"epoch": self.position.epoch, "position": self.position.position}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue after `position` anchors of `epoch`.

        Raises:
            CheckpointError: the position does not lie between two global batches of this run.
        """
        epoch, position = int(state_dict["epoch"]), int(state_dict["position"])
        size = self.order.global_batch_size
        if position % size or not 0 <= position < self.order.num_batches * size:
            raise CheckpointError(
                f"the checkpoint stands after {position} anchors of epoch {epoch}, which is not "
                f"between two of the {self.order.num_batches} global batches of {size} anchors",
                "resume with the global batch size and the data of the first start",
            )
        self.remaining.position = SamplerPosition(epoch=epoch, position=position)
