"""Roles as rows of the unique codes of a step."""

import numpy as np
import torch

from naics_job.data.batch import code_batch
from naics_job.data.sampler import AnchorBatch


def test_every_code_is_listed_once_and_roles_point_at_it() -> None:
    batch = AnchorBatch(
        epoch=2,
        index=5,
        anchors=np.array([9, 4, 9]),
        positives=np.array([4, 7, 30]),
        relation=np.array([1, 2, 5], dtype=np.int8),
        distance=np.array([1, 2, 2], dtype=np.int8),
        margin=np.array([1, 0.5, 0.5], dtype=np.float32),
    )
    negatives = np.array([[30, 1], [1, 9], [2, 7]])
    codes = code_batch(batch, negatives, np.array([7, 12, 12, 3]))
    assert codes.codes.tolist() == [1, 2, 3, 4, 7, 9, 12, 30]  # those asked for by texts as well
    assert codes.codes[codes.anchor].tolist() == [9, 4, 9]
    assert codes.codes[codes.positive].tolist() == [4, 7, 30]
    assert codes.codes[codes.negative].tolist() == negatives.tolist()
    assert (codes.epoch, codes.index) == (2, 5)
    assert codes.margin.dtype == torch.float32
    assert codes.relation.tolist() == [1, 2, 5]


def test_moving_a_batch_moves_every_tensor() -> None:
    one = np.array([0])
    small = np.zeros(1, dtype=np.int8)
    batch = AnchorBatch(0, 0, one, one + 1, small, small, np.ones(1, dtype=np.float32))
    moved = code_batch(batch, np.array([[2, 3]]), one).to(torch.device("meta"))
    tensors = [value for value in vars(moved).values() if isinstance(value, torch.Tensor)]
    assert len(tensors) == 7
    assert {value.device.type for value in tensors} == {"meta"}
