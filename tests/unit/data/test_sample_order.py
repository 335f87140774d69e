"""The order of samples is a function of seed, epoch and global position alone.

Digests of codes, positives and negatives of phase 1, row by row: whatever the number of processes
(which changes how a global batch is cut) and of loader workers, and wherever reading begins.
"""

import functools
import hashlib
import json
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naics_job.config.batches import plan_batches
from naics_job.config.load import load_config
from naics_job.config.schema import Config
from naics_job.data.datamodule import NaicsDataModule
from naics_job.data.prepare import NaicsData
from naics_job.data.sampler import AnchorBatch
from naics_job.data.triplets import positive_table
from naics_job.taxonomy.codes import bundled_titles
from naics_job.taxonomy.tree import Taxonomy

GLOBAL_BATCH = 16
WORLDS, WORKERS = (1, 2, 4), (0, 2, 4)
Rows = list[str]  # a digest of every sample


@functools.cache
def data() -> NaicsData:
    rows = [row for row in bundled_titles() if row[0].startswith(("21", "22"))]
    taxonomy = Taxonomy.from_codes(*zip(*rows, strict=True))
    excluded = np.arange(len(taxonomy) + 1), np.roll(np.arange(len(taxonomy)), 7)
    return NaicsData(taxonomy, {}, excluded, positive_table(taxonomy), "bundled", "0" * 64)


@functools.cache
def config(seed: int, workers: int) -> Config:
    changes = (f"seed={seed}", f"data_loader.num_workers={workers}", "data_loader.batch_size=2")
    size = f"data_loader.global_batch_size={GLOBAL_BATCH}"
    return load_config(None, "smoke", [*changes, size]).config


@functools.cache
def module(seed: int, world: int, workers: int = 0) -> NaicsDataModule:
    chosen = config(seed, workers)
    plan = plan_batches(chosen, world)
    assert plan.micro_batches == 8 // world
    return NaicsDataModule(data(), chosen, global_batch_size=plan.global_batch_size)


def rows(tested: NaicsDataModule, batches: Iterable[AnchorBatch]) -> Rows:
    """A digest of each sample, negatives drawn as phase 1 draws them."""
    found = []
    for batch in batches:
        draws = batch.draws(tested.order.seed)
        negatives = tested.negatives.draw(batch.anchors, 6, 1.5, 2, 0.1, draws)
        sample = np.column_stack([batch.anchors, batch.positives, negatives]).astype(np.int64)
        found += [hashlib.sha256(row.tobytes()).hexdigest() for row in sample]
    return found


def epochs(tested: NaicsDataModule, epoch: int, position: int, count: int = 2) -> Rows:
    """Samples from `position` of `epoch` to the end of the next epoch."""
    tested.load_state_dict({"epoch": epoch, "position": position})
    found = rows(tested, tested.train_dataloader())
    for later in range(epoch + 1, epoch + count):
        tested.set_epoch(later)
        found += rows(tested, tested.train_dataloader())
    return found


@functools.cache
def straight(seed: int, epoch: int) -> Rows:
    return epochs(module(seed, 1), epoch, 0)


@given(
    seed=st.sampled_from([0, 42]),
    epoch=st.integers(0, 5),
    world=st.sampled_from(WORLDS),
    place=st.floats(0, 1, exclude_max=True),
)
@settings(max_examples=60, deadline=None)
def test_any_number_of_processes_from_any_place(
    seed: int, epoch: int, world: int, place: float
) -> None:
    tested = module(seed, world)
    position = int(place * tested.steps_per_epoch) * GLOBAL_BATCH
    assert epochs(tested, epoch, position) == straight(seed, epoch)[position:]


def test_seed_and_epoch_change_the_order() -> None:
    orders = [straight(0, 0), straight(42, 0), straight(0, 2)]
    assert len({tuple(order) for order in orders}) == 3
    per_epoch = module(0, 1).steps_per_epoch * GLOBAL_BATCH
    assert len(straight(0, 0)) == 2 * per_epoch
    assert straight(0, 1)[:per_epoch] == straight(0, 0)[per_epoch:]


def test_the_state_is_small_and_the_same_on_every_process() -> None:
    states = set()
    for world in WORLDS:
        tested = module(0, world)
        tested.load_state_dict({"epoch": 10**6, "position": GLOBAL_BATCH})
        states.add(json.dumps(tested.state_dict()))
        assert tested.train_dataloader().state_dict() == {}
    (state,) = states
    assert len(state.encode()) < 1000


@pytest.mark.integration
@pytest.mark.parametrize("workers", WORKERS[1:])
@pytest.mark.filterwarnings("ignore:.*suggested max number of worker")
def test_any_number_of_loader_workers(workers: int) -> None:
    for world in WORLDS:
        tested = module(42, world, workers)
        tested.load_state_dict({"epoch": 1, "position": GLOBAL_BATCH})
        loader = tested.train_dataloader()  # as Lightning does: one loader, its workers stay
        found = rows(tested, loader)
        tested.set_epoch(2)
        found += rows(tested, loader)
        assert found == straight(42, 1)[GLOBAL_BATCH:]
        del loader
