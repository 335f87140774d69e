"""What the loader yields, from where, and what it remembers."""

import functools
import pickle

import numpy as np
import pytest

from naics_job.config.load import load_config
from naics_job.config.schema import Config
from naics_job.data.datamodule import NaicsDataModule
from naics_job.data.prepare import NaicsData
from naics_job.data.sampler import AnchorBatch, SamplerPosition
from naics_job.data.triplets import positive_table
from naics_job.errors import CheckpointError, ConfigError
from naics_job.taxonomy.codes import bundled_titles
from naics_job.taxonomy.tree import Taxonomy


@functools.cache
def settings(overrides: tuple[str, ...]) -> Config:
    return load_config(None, "smoke", overrides).config


@functools.cache
def data() -> NaicsData:
    rows = [row for row in bundled_titles() if row[0].startswith(("21", "22"))]
    taxonomy = Taxonomy.from_codes(*zip(*rows, strict=True))
    none = np.zeros(len(taxonomy) + 1, dtype=np.int64), np.empty(0, dtype=np.int64)
    return NaicsData(taxonomy, {}, none, positive_table(taxonomy), "bundled", "0" * 64)


def module(size: int = 8, *overrides: str) -> NaicsDataModule:
    return NaicsDataModule(data(), settings(overrides), global_batch_size=size)


def assert_same(left: AnchorBatch, right: AnchorBatch) -> None:
    for name, value in vars(left).items():
        np.testing.assert_array_equal(value, getattr(right, name), err_msg=name)


def test_an_epoch_is_full_and_never_shows_a_held_out_code() -> None:
    tested = module()
    batches = list(tested.train_dataloader())
    assert len(batches) == len(tested.train_dataloader()) == tested.steps_per_epoch
    anchors = np.concatenate([batch.anchors for batch in batches])
    positives = np.concatenate([batch.positives for batch in batches])
    for heldout in (tested.splits.validation, tested.splits.test):
        assert len(heldout) > 0
        assert not np.isin(np.concatenate([anchors, positives]), heldout).any()
    assert set(anchors) == set(tested.positives.anchors)


@pytest.mark.parametrize("seen", [0, 1, 3, 5])
def test_seeking_equals_reading_straight_on(seen: int) -> None:
    straight = list(module().train_dataloader())
    resumed = module()
    resumed.load_state_dict({"epoch": 0, "position": seen * 8})
    rest = list(resumed.train_dataloader())
    assert len(rest) == len(straight) - seen
    assert len(resumed.train_dataloader()) == len(straight)  # of the whole epoch
    for left, right in zip(rest, straight[seen:], strict=True):
        assert_same(left, right)


def test_what_is_recorded_is_what_is_saved() -> None:
    tested = module()
    batches = list(tested.train_dataloader())
    assert tested.state_dict() == {"epoch": 0, "position": 0}  # fetched is not finished
    tested.record(batches[2])
    assert tested.state_dict() == {"epoch": 0, "position": 24}
    tested.record(batches[-1])
    assert tested.position == SamplerPosition(epoch=1, position=0)
    following = next(iter(tested.train_dataloader()))
    assert (following.epoch, following.index) == (1, 0)
    assert (following.anchors != batches[0].anchors).any()


@pytest.mark.parametrize("size", [1, 2, 8])
def test_a_batch_is_a_whole_step_however_it_is_encoded(size: int) -> None:
    accumulate = f"training.trainer.accumulate_grad_batches={8 // size}"
    cut = module(8, f"data_loader.batch_size={size}", accumulate)
    for left, right in zip(cut.train_dataloader(), module().train_dataloader(), strict=True):
        assert len(left.anchors) == 8
        assert_same(left, right)


def test_overfitting_repeats_the_batches_of_the_first_epoch() -> None:
    tested = module(8, "training.trainer.overfit_batches=4")
    first = [tested.dataset[0, number] for number in range(4)]
    later = [tested.dataset[3, number] for number in range(4)]
    for one, other in zip(first, later, strict=True):
        assert (one.epoch, other.epoch) == (0, 3)
        np.testing.assert_array_equal(one.anchors, other.anchors)
        np.testing.assert_array_equal(one.positives, other.positives)
    plain = module(8)
    assert (plain.dataset[0, 0].anchors != plain.dataset[3, 0].anchors).any()


def test_set_epoch_keeps_the_place_in_the_running_epoch() -> None:
    tested = module()
    tested.load_state_dict({"epoch": 1, "position": 16})
    tested.set_epoch(1)
    assert tested.position == SamplerPosition(1, 16)
    tested.set_epoch(2)
    assert tested.position == SamplerPosition(2, 0)


def test_the_data_set_makes_the_same_batch_in_another_process() -> None:
    tested = module()
    copy = pickle.loads(pickle.dumps(tested.dataset))
    assert_same(copy[3, 2], tested.dataset[3, 2])


def test_a_replaced_sampler_is_refused() -> None:
    with pytest.raises(ConfigError, match="use_distributed_sampler"):
        module().dataset[0]  # type: ignore[index]


def test_a_position_of_another_batch_size_is_refused() -> None:
    with pytest.raises(CheckpointError, match="after 12 anchors of epoch 0"):
        module().load_state_dict({"epoch": 0, "position": 12})


def test_more_negatives_than_codes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data_loader\.num_negatives=500"):
        module(8, "data_loader.num_negatives=500")
