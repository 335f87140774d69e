"""Scores and probabilities of the codes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from naics_job.export.ranking import Certainty, CodeRanker, SearchCalibration
from naics_job.geometry.light import exp_map_origin, pairwise_distance
from naics_job.training.search_fit import Searched, fit_search

SURE = Certainty(((1.0, 0.0), (0.5, 0.3)))
CALIBRATION = SearchCalibration((0.0, 2.0), SURE, Certainty(((2.0, 0.0), (1.0, 0.1))))
ITEM_LEAF = np.array([2, 0, 2, 3, 0])
CURVATURE = 0.7


def points(count: int, seed: int) -> np.ndarray:
    return exp_map_origin(np.random.default_rng(seed).normal(size=(count, 6)), CURVATURE)


@pytest.fixture
def ranker() -> CodeRanker:
    return CodeRanker(points(4, 0), points(5, 1), ITEM_LEAF, CURVATURE, CALIBRATION)


def test_scores_and_probabilities_are_as_written(ranker: CodeRanker) -> None:
    queries, long = points(300, 2), np.arange(300) % 2 == 1  # more than a block
    own = pairwise_distance(queries, points(4, 0), CURVATURE).astype(np.float64)
    items = pairwise_distance(queries, points(5, 1), CURVATURE)
    nearest = own.copy()  # code 1 has no items
    for leaf in (0, 2, 3):
        nearest[:, leaf] = items[:, leaf == ITEM_LEAF].min(axis=1)
    score = -(own + np.where(long, 2.0, 0.0)[:, None] * nearest)
    slope = np.where(long, 0.5 + 0.3 * own.min(axis=1), 1.0)
    share = np.exp(score * np.exp(slope)[:, None])
    found = ranker.rank(queries, long)
    np.testing.assert_allclose(found.score, score, atol=1e-4)
    expected = share / share.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.probability, expected, atol=1e-3)


def test_the_odds_of_the_first_answer_are_restated_and_the_others_share_the_rest(
    ranker: CodeRanker,
) -> None:
    queries, long = points(300, 2), np.arange(300) % 2 == 1
    plain = ranker.rank(queries, long)
    restated = replace(CALIBRATION, plain=replace(SURE, first_answer=((0.6, 0.9), (1.0, 0.0))))
    found = CodeRanker(points(4, 0), points(5, 1), ITEM_LEAF, CURVATURE, restated).rank(
        queries, long
    )
    np.testing.assert_array_equal(found.score, plain.score)
    np.testing.assert_allclose(found.probability[long], plain.probability[long], rtol=1e-12)
    before, after = plain.probability[~long], found.probability[~long]
    np.testing.assert_allclose(after.sum(axis=1), 1.0)
    first = before.max(axis=1)
    odds = 0.6 * np.log(first / (1 - first)) + 0.9
    np.testing.assert_allclose(after.max(axis=1), 1 / (1 + np.exp(-odds)), rtol=1e-9)
    np.testing.assert_array_equal(np.argsort(-after, axis=1), np.argsort(-before, axis=1))
    ratio = np.sort(after, axis=1)[:, :-1] / np.sort(before, axis=1)[:, :-1]
    np.testing.assert_allclose(ratio, ratio[:, :1] * np.ones(3), rtol=1e-9)


def test_the_first_answer_stays_the_likeliest(ranker: CodeRanker) -> None:
    """Whatever the line says, and with one code only."""
    queries, long = points(50, 2), np.zeros(50, dtype=bool)
    doubtful = replace(CALIBRATION, plain=replace(SURE, first_answer=((1.0, -9.0), (1.0, 0.0))))
    found = CodeRanker(points(4, 0), points(5, 1), ITEM_LEAF, CURVATURE, doubtful).rank(
        queries, long
    )
    best = found.probability.max(axis=1)
    np.testing.assert_allclose(
        np.take_along_axis(found.probability, found.score.argmax(axis=1)[:, None], 1)[:, 0], best
    )
    none = np.zeros(0, dtype=np.int64)
    alone = CodeRanker(points(1, 0), points(0, 1), none, CURVATURE, doubtful)
    np.testing.assert_array_equal(alone.rank(queries, long).probability, 1.0)


def test_the_nearest_item_of_some_codes(ranker: CodeRanker) -> None:
    query = points(1, 3)[0]
    distance = pairwise_distance(query[None], points(5, 1), CURVATURE)[0]
    assert ranker.nearest_item(query, 0, 4) == distance.argmin()
    assert ranker.nearest_item(query, 1, 2) is None
    assert ranker.nearest_item(query, 1, 3) in (0, 2)
    assert ranker.nearest_item(query, 3, 4) == 3


def test_shared_words_move_a_code_up(ranker: CodeRanker) -> None:
    queries, long = points(3, 4), np.zeros(3, dtype=bool)
    words = np.zeros((3, 4), dtype=np.float32)
    plain = ranker.rank(queries, long)
    np.testing.assert_array_equal(ranker.rank(queries, long, words).score, plain.score)
    words[0, 1] = 0.5
    spread = plain.score[0].max() - plain.score[0].min()
    found = ranker.rank(queries, long, words).score - plain.score
    np.testing.assert_allclose(found[0], [0, 0.25 * spread, 0, 0])
    assert not found[1:].any()
    score = ranker.rank(queries, long, words).score
    share = np.exp(score * np.exp(2.0))  # the probabilities are those of this kind of search
    np.testing.assert_allclose(
        ranker.rank(queries, long, words).probability, share / share.sum(axis=1, keepdims=True)
    )


def test_codes_without_any_item() -> None:
    none = CodeRanker(points(4, 0), points(0, 0), ITEM_LEAF[:0], CURVATURE, CALIBRATION)
    own = pairwise_distance(points(2, 5), points(4, 0), CURVATURE)
    found = none.rank(points(2, 5), np.array([True, True])).score
    np.testing.assert_allclose(found, -3 * own, atol=1e-4)
    assert none.rank(points(0, 0), np.zeros(0, dtype=bool)).probability.shape == (0, 4)


def test_what_was_fitted_is_what_is_used(ranker: CodeRanker) -> None:
    """The likelihood of the right codes is highest with the calibration that was fitted on them."""
    queries, long = points(200, 6), np.zeros(200, dtype=bool)
    own = torch.from_numpy(pairwise_distance(queries, points(4, 0), CURVATURE))
    truth = (own + 0.4 * torch.randn(own.shape, generator=torch.Generator().manual_seed(0))).argmin(
        1
    )
    texts = Searched(own, own, torch.zeros_like(own), truth)
    fitted = fit_search(texts, texts.rows(slice(0)), texts.rows(slice(0)))

    def likelihood(calibration: SearchCalibration) -> float:
        ranker = CodeRanker(points(4, 0), points(0, 0), ITEM_LEAF[:0], CURVATURE, calibration)
        chance = ranker.rank(queries, long).probability
        return float(np.log(chance[np.arange(200), truth.numpy()]).mean())

    best = likelihood(fitted)
    for shift in (-0.5, 0.5):
        (first, second), other = fitted.plain.slope
        moved = replace(fitted.plain, slope=((first + shift, second), other))
        assert likelihood(replace(fitted, plain=moved)) < best
