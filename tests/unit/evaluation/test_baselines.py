"""Baselines against cosines worked by hand and a slow reference."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity
from torch import Tensor

from naics_job.evaluation.baselines import (
    FROZEN,
    FrozenCodes,
    code_documents,
    frozen_scores,
    mean_directions,
    tfidf_scores,
)

ROOT_HALF = math.sqrt(0.5)


def frozen_codes() -> FrozenCodes:
    """Code 0 has everything, 1 only a title, 2 no title but an item, 3 nothing."""
    return FrozenCodes(
        title=torch.tensor([[2.0, 0.0], [0.0, 5.0], [7.0, 7.0], [1.0, 1.0]]),
        has_title=torch.tensor([True, True, False, False]),
        description=torch.tensor([[0.0, 3.0], [9.0, 9.0], [9.0, 9.0], [9.0, 9.0]]),
        has_description=torch.tensor([True, False, False, False]),
        items=torch.tensor([[0.0, 4.0], [0.0, 1.0], [-1.0, 0.0]]),
        item_start=torch.tensor([0, 2, 2, 3, 3]),
    )


def scores_of(queries: Tensor, codes: FrozenCodes, block_queries: int = 256) -> dict[str, Tensor]:
    blocks = list(frozen_scores(queries, codes, block_queries))
    return {name: torch.cat([block[name] for block in blocks]) for name in FROZEN}


def test_the_mean_leaves_out_what_a_code_does_not_have() -> None:
    x, y = 1 / math.sqrt(5), 2 / math.sqrt(5)  # (1, 0) + (0, 1) + (0, 1)
    expected = torch.tensor([[x, y], [0, 1], [-1, 0], [0, 0]], dtype=torch.float64)
    torch.testing.assert_close(mean_directions(frozen_codes()), expected)


def test_the_mean_of_the_items_counts_as_one_text() -> None:
    codes = FrozenCodes(
        title=torch.tensor([[0.0, 0.0, 2.0]]),
        has_title=torch.tensor([True]),
        description=torch.zeros(1, 3),
        has_description=torch.tensor([False]),
        items=torch.tensor([[9.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
        item_start=torch.tensor([0, 2]),
    )
    expected = torch.tensor([[0.5, 0.5, ROOT_HALF]], dtype=torch.float64)
    torch.testing.assert_close(mean_directions(codes), expected)


def test_cosines_worked_by_hand() -> None:
    found = scores_of(torch.tensor([[3.0, 0.0]]), frozen_codes())
    mean = torch.tensor([[1 / math.sqrt(5), 0.0, -1.0, 0.0]])
    nearest = torch.tensor([[0.0, 0.0, -1.0, 0.0]])  # of 1 its title; of 3 nothing
    torch.testing.assert_close(found["frozen_mean"], mean)
    torch.testing.assert_close(found["frozen_nearest_item"], nearest)
    torch.testing.assert_close(found["frozen_sum"], mean + nearest)


def test_a_code_without_items_is_as_near_as_its_title() -> None:
    found = scores_of(torch.tensor([[1.0, 1.0]]), frozen_codes())["frozen_nearest_item"]
    torch.testing.assert_close(found[0, 1], torch.tensor(ROOT_HALF))


@pytest.mark.parametrize("block_queries", [1, 4, 256])
def test_the_nearest_item_agrees_with_a_loop(block_queries: int) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.tensor([0, 0, 3, 4, 4, 9])
    codes = FrozenCodes(
        title=torch.randn(5, 8, generator=generator),
        has_title=torch.ones(5, dtype=torch.bool),
        description=torch.randn(5, 8, generator=generator),
        has_description=torch.ones(5, dtype=torch.bool),
        items=torch.randn(9, 8, generator=generator),
        item_start=start,
    )
    queries = torch.randn(10, 8, generator=generator)
    found = scores_of(queries, codes, block_queries)["frozen_nearest_item"]
    assert found.dtype == torch.float32
    for code in range(5):
        texts = codes.items[start[code] : start[code + 1]]
        texts = texts if len(texts) else codes.title[code : code + 1]
        expected = cosine_similarity(queries.numpy(), texts.numpy()).max(1)
        np.testing.assert_allclose(found[:, code].numpy(), expected, rtol=1e-5)


def test_codes_with_the_same_texts_tie() -> None:
    row = torch.randn(1, 384, generator=torch.Generator().manual_seed(0))
    codes = FrozenCodes(
        title=row.repeat(33, 1),
        has_title=torch.ones(33, dtype=torch.bool),
        description=row.flip(1).repeat(33, 1),
        has_description=torch.ones(33, dtype=torch.bool),
        items=row.roll(5, 1).repeat(33, 1),
        item_start=torch.arange(34),
    )
    queries = torch.randn(7, 384, generator=torch.Generator().manual_seed(1))
    for scores in scores_of(queries, codes).values():
        assert (scores == scores[:, :1]).all()


def test_documents_hold_all_that_is_written_about_a_code() -> None:
    documents = code_documents(["Title", "Other"], ["About it.", ""], [["one", "two"], []])
    assert documents == ["Title\nAbout it.\none\ntwo", "Other\n"]


def test_tfidf_worked_by_hand() -> None:
    documents = ["wheat farming", "wheat wheat the mills", "banks"]
    texts = ["wheat", "the farming of wheat", "unknown words"]
    [scores] = tfidf_scores(texts, documents)
    assert scores.dtype == np.float32
    # smooth idf: ln((1 + 3) / (1 + documents with it)) + 1
    common, rare = math.log(4 / 3) + 1, math.log(4 / 2) + 1
    first = math.hypot(common, rare, rare)  # wheat, farming, "wheat farming"
    twice = (1 + math.log(2)) * common
    second = math.hypot(twice, rare, rare, rare)  # wheat, mills, "wheat wheat", "wheat mills"
    query = math.hypot(common, rare)  # farming, wheat; their pair is in no document
    expected = [
        [common / first, twice / second, 0],
        [(common**2 + rare**2) / first / query, common * twice / second / query, 0],
        [0, 0, 0],
    ]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_blocks_of_texts_do_not_matter() -> None:
    documents = ["wheat farming", "flour mills", "banks"]
    texts = ["wheat", "mills and banks", "flour", "farming wheat", "banks"]
    [whole] = tfidf_scores(texts, documents)
    blocks = list(tfidf_scores(texts, documents, block_queries=2))
    assert [len(block) for block in blocks] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
