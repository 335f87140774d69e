"""Distinct texts, blocks of similar length, padding."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from naics_job.data.tokens import Ragged
from naics_job.model.grouping import (
    concatenated,
    distinct_texts,
    length_blocks,
    padded_ids,
    text_keys,
)

MakeRagged = Callable[[list[list[int]]], Ragged]


def test_equal_texts_are_one_and_empty_rows_none(ragged: MakeRagged) -> None:
    texts = distinct_texts(ragged([[1, 2], [], [3], [1, 2], [2, 1], [3]]))
    assert texts.rows.tolist() == [0, 2, 4]
    assert texts.index.tolist() == [0, -1, 1, 0, 2, 1]


def test_a_text_has_one_key_in_any_company(ragged: MakeRagged) -> None:
    keys = text_keys(ragged([[1, 2], [], [3], [1, 2], [2, 1], [3, 0]]), np.arange(6))
    assert keys.dtype == np.int64
    assert keys[0] == keys[3]
    assert len(set(keys.tolist())) == 5
    other = ragged([[9], [3], [2, 1]])
    assert text_keys(other, np.array([2, 1])).tolist() == keys[[4, 2]].tolist()
    wide = Ragged(other.ids.astype(np.int64), other.lengths)
    assert text_keys(wide, np.array([1])).tolist() == keys[[2]].tolist()
    assert len(text_keys(other, np.array([], dtype=np.int64))) == 0


def test_blocks_hold_every_text_once() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, size=777)
    blocks = length_blocks(lengths)
    assert sorted(np.concatenate(blocks).tolist()) == list(range(777))


def test_padding_of_a_training_step_is_below_a_tenth() -> None:
    rng = np.random.default_rng(1)
    lengths = np.clip(rng.lognormal(4.0, 0.6, size=300), 3, 160).astype(np.int64)
    blocks = length_blocks(lengths)
    padded = sum(len(block) * lengths[block].max() for block in blocks)
    assert 1 - lengths.sum() / padded < 0.10
    assert np.mean([len(block) for block in blocks]) >= 8


@pytest.mark.parametrize("cost", [0, 3, 1000])
def test_cut_is_the_cheapest_of_all_cuts(cost: int) -> None:
    lengths = np.array([9, 2, 2, 5, 6, 6, 6, 12])
    blocks = length_blocks(lengths, block_cost=cost)

    def price(cut: list[np.ndarray]) -> int:
        return sum(len(block) * int(block.max()) + cost for block in cut)

    ordered = np.sort(lengths)
    every_cut = [
        np.split(ordered, list(places))
        for count in range(len(ordered))
        for places in itertools.combinations(range(1, len(ordered)), count)
    ]
    assert price([lengths[block] for block in blocks]) == min(price(cut) for cut in every_cut)


def test_large_blocks_are_split_evenly() -> None:
    blocks = length_blocks(np.full(100, 10), max_tokens=320)
    assert [len(block) for block in blocks] == [25, 25, 25, 25]
    assert [len(block) for block in length_blocks(np.array([50, 50]), max_tokens=20)] == [1, 1]
    assert length_blocks(np.array([], dtype=np.int64)) == []


def test_padded_ids_put_real_tokens_in_front(ragged: MakeRagged) -> None:
    ids, mask = padded_ids(ragged([[1, 2, 3], [], [4], [5, 6]]), np.array([3, 0]), pad_id=9)
    assert ids.tolist() == [[5, 6, 9], [1, 2, 3]]
    assert mask.tolist() == [[True, True, False], [True, True, True]]
    assert ids.dtype == np.int64


def test_concatenated_keeps_the_rows(ragged: MakeRagged) -> None:
    both = concatenated([ragged([[1], [2, 3]]), ragged([[], [4]])])
    assert both.ids.tolist() == [1, 2, 3, 4]
    assert both.lengths.tolist() == [1, 2, 0, 1]
