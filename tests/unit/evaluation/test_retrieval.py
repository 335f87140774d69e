"""Retrieval metrics against scikit-learn and hand-worked lists."""

import math

import numpy as np
import pytest
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score

from naics_job.evaluation.distances import MatrixDistances
from naics_job.evaluation.retrieval import (
    average_precision,
    ndcg_at,
    parent_hits,
    score_queries,
    sibling_hits,
    without_self,
)
from naics_job.taxonomy.tree import Taxonomy

# positions: 0 "11", 1 "111", 2 "1111", 3 "1112", 4 "112", 5 "21", 6 "211"
TREE = Taxonomy.from_codes(("11", "111", "1111", "1112", "112", "21", "211"), tuple("abcdefg"))


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "tied"])
def test_ndcg_agrees_with_scikit_learn(ties: bool) -> None:
    rng = np.random.default_rng(0)
    distance = rng.integers(0, 6, (40, 30)).astype(float) if ties else rng.random((40, 30))
    relevance = 1 / (1 + rng.integers(1, 11, (40, 30)))
    found = ndcg_at(distance, relevance, (5, 10, 20))
    for depth in (5, 10, 20):
        expected = [
            ndcg_score(r[None], -d[None], k=depth) for r, d in zip(relevance, distance, strict=True)
        ]
        np.testing.assert_allclose(found[depth], expected, rtol=1e-9)


def test_ndcg_of_a_hand_worked_list() -> None:
    # ranked relevances 1/3, 1, 1/2: DCG@2 = 1/3 + 1/log2(3); ideal 1 + 0.5/log2(3)
    found = ndcg_at(np.array([[2.0, 1.0, 3.0]]), np.array([[1.0, 1 / 3, 0.5]]), (2,))
    third = math.log2(3)
    assert found[2][0] == pytest.approx((1 / 3 + 1 / third) / (1 + 0.5 / third))


def test_ndcg_of_fewer_candidates_than_places() -> None:
    found = ndcg_at(np.array([[1.0, 2.0]]), np.array([[1.0, 0.5]]), (5, 20))
    assert found[5][0] == found[20][0] == pytest.approx(1)


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "tied"])
def test_average_precision_agrees_with_scikit_learn(ties: bool) -> None:
    rng = np.random.default_rng(1)
    distance = rng.integers(0, 6, (40, 30)).astype(float) if ties else rng.random((40, 30))
    relevant = rng.random((40, 30)) < 0.2
    relevant[:, 0] = True
    expected = [
        label_ranking_average_precision_score(r[None], -d[None])
        for r, d in zip(relevant, distance, strict=True)
    ]
    np.testing.assert_allclose(average_precision(distance, relevant), expected, rtol=1e-9)


def test_average_precision_of_hand_worked_lists() -> None:
    distance = np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 2.0, 4.0], [1.0, 2.0, 3.0, 4.0]])
    relevant = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 0, 0]], dtype=bool)
    found = average_precision(distance, relevant)
    np.testing.assert_allclose(found[:2], [(1 + 2 / 3) / 2, (1 / 3 + 2 / 4) / 2])
    assert np.isnan(found[2])


def test_parent_hits_and_ties() -> None:
    rows = np.arange(7)
    distance = np.full((7, 7), 9.0)
    distance[1, [0, 5]] = (1.0, 2.0)  # the parent is nearer than the other sector
    distance[2, [1, 4, 6]] = (3.0, 3.0, 3.0)  # tie of three, one is the parent
    distance[3, [1, 4]] = (5.0, 4.0)  # a wrong industry is nearer
    distance[4, [0, 2]] = (8.0, 0.1)  # a code that is not one level up does not matter
    distance[6, [0, 5]] = (1.0, 1.0)
    hits = parent_hits(distance, TREE, rows)
    np.testing.assert_allclose(hits, [np.nan, 1, 1 / 3, 0, 1, np.nan, 0.5])


def test_sibling_hits_and_ties() -> None:
    distance = np.full((7, 7), 9.0)
    distance[2, [2, 3]] = (0.0, 1.0)  # its own column does not count
    distance[1, [4, 0]] = (1.0, 1.0)
    rows = np.array([0, 1, 2, 3, 6])
    hits = sibling_hits(without_self(distance[rows], rows), TREE, rows)
    np.testing.assert_allclose(hits, [1 / 6, 0.5, 1, 1 / 6, np.nan])


def test_query_is_not_its_own_answer() -> None:
    values = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(
        without_self(values, np.array([0, 3, 1])), [[1, 2, 3], [4, 5, 6], [8, 10, 11]]
    )


def test_scores_of_the_tree_itself_are_one() -> None:
    everyone = np.arange(7)
    matrix = TREE.tree_distance(everyone, everyone).astype(float)
    scores = score_queries(MatrixDistances(matrix), TREE, everyone, block_rows=2)
    means = scores.means(np.ones(7, dtype=bool))
    assert means == pytest.approx(
        dict.fromkeys(("ndcg@5", "ndcg@10", "ndcg@20", "map"), 1.0) | {"parent@1": 1.0}
    )
    assert int(np.isnan(scores.parent_hit).sum()) == 2


def test_relevant_codes_of_map_are_those_within_two_edges() -> None:
    # from 1112 (3): parent 1, sibling 2, grandparent 0 within two edges; 112 (4) three edges away
    matrix = np.full((7, 7), 9.0)
    matrix[3, [4, 1, 2, 0]] = (1.0, 2.0, 3.0, 4.0)
    # from 211 (6): 21 alone is within two edges, the head of the other sector is not
    matrix[6, [0, 5]] = (1.0, 2.0)
    scores = score_queries(MatrixDistances(matrix), TREE, np.array([3, 6]), block_rows=8)
    assert scores.average_precision == pytest.approx([(1 / 2 + 2 / 3 + 3 / 4) / 3, 1 / 2])


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "tied"])
def test_scores_depend_neither_on_blocks_nor_on_the_order_of_candidates(ties: bool) -> None:
    rng = np.random.default_rng(3)
    distance = rng.integers(1, 4, (5, 12)).astype(float) if ties else rng.random((5, 12))
    relevance, relevant = rng.random((5, 12)), rng.random((5, 12)) < 0.4
    shuffled = rng.permutation(12)
    first = ndcg_at(distance, relevance, (5,))[5]
    second = ndcg_at(distance[:, shuffled], relevance[:, shuffled], (5,))[5]
    np.testing.assert_allclose(first, second)
    np.testing.assert_allclose(
        average_precision(distance, relevant),
        average_precision(distance[:, shuffled], relevant[:, shuffled]),
    )
    matrix = MatrixDistances(rng.integers(1, 4, (7, 7)).astype(float))
    small, large = (score_queries(matrix, TREE, np.arange(7), rows) for rows in (1, 100))
    np.testing.assert_array_equal(small.average_precision, large.average_precision)
    np.testing.assert_array_equal(small.parent_hit, large.parent_hit)
