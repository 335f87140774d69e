"""Text search scores against cases worked by hand."""

import numpy as np
import pytest
import torch

from naics_job.evaluation.distances import CosineDistances, MatrixDistances
from naics_job.evaluation.search import places_of_truth, score_search, search_metrics


def test_places_count_nearer_and_equally_near_candidates() -> None:
    distance = np.array([[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.1, 0.5], [2.0, 1.0, 3.0, 1.0]])
    nearer, tied = places_of_truth(distance, np.array([0, 3, 2]))
    assert nearer.tolist() == [0, 1, 3]
    assert tied.tolist() == [1, 3, 1]


def test_scores_without_ties() -> None:
    places = np.array([1, 2, 5, 6])
    scores = search_metrics(places - 1, np.ones(4, dtype=int))
    assert scores["top@1"] == 1 / 4
    assert scores["top@5"] == 3 / 4
    assert scores["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 5 + 1 / 6) / 4)
    assert scores["num_queries"] == 4


def test_ties_share_their_places() -> None:
    # places 1..2, 4..6 and 6..7
    scores = search_metrics(np.array([0, 3, 5]), np.array([2, 3, 2]))
    assert scores["top@1"] == pytest.approx((1 / 2 + 0 + 0) / 3)
    assert scores["top@5"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    expected = [(1 + 1 / 2) / 2, (1 / 4 + 1 / 5 + 1 / 6) / 3, (1 / 6 + 1 / 7) / 2]
    assert scores["mrr"] == pytest.approx(np.mean(expected))


def test_a_collapsed_embedding_scores_as_a_blind_guess() -> None:
    vectors = torch.ones(13, 3)  # 10 codes, 3 queries
    scores = score_search(CosineDistances(vectors), np.arange(10), np.array([0, 4, 9]))
    assert scores["top@1"] == pytest.approx(1 / 10)
    assert scores["top@5"] == pytest.approx(5 / 10)


def test_only_candidates_compete() -> None:
    # codes 0..4 of which 1 and 3 are candidates; rows 5 and 6 are queries
    matrix = np.full((7, 7), 9.0)
    matrix[5, :5] = [0.0, 3.0, 0.0, 2.0, 0.0]  # truth 1: second among the candidates
    matrix[6, :5] = [0.0, 5.0, 0.0, 4.0, 0.0]  # truth 3: first
    scores = score_search(MatrixDistances(matrix), np.array([1, 3]), np.array([1, 3]))
    assert scores == {"top@1": 0.5, "top@5": 1.0, "mrr": 0.75, "num_queries": 2.0}


def test_blocks_of_queries_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    matrix = np.round(rng.random((700, 700)), 2)  # with ties
    candidates, truth = np.arange(0, 100, 3), rng.choice(np.arange(0, 100, 3), 600)
    scores = score_search(MatrixDistances(matrix), candidates, truth)
    whole = places_of_truth(matrix[100:][:, candidates].astype(np.float32), truth // 3)
    assert scores == search_metrics(*whole)
    assert scores["num_queries"] == 600


def test_nothing_held_out_gives_no_scores() -> None:
    distances = MatrixDistances(np.zeros((3, 3)))
    assert score_search(distances, np.arange(3), np.zeros(0, dtype=int)) == {}
