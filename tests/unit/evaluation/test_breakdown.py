"""Dividing the error of a correlation among pairs, tree distances and groups of codes."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from naics_job.evaluation import breakdown
from naics_job.evaluation.breakdown import (
    Pairs,
    all_pairs,
    by_group,
    by_tree_distance,
    contrast,
    fit_distance,
    fit_rank,
)
from naics_job.evaluation.distances import MatrixDistances
from naics_job.taxonomy.codes import bundled_titles, sector_of
from naics_job.taxonomy.tree import Taxonomy

ROWS = [(code, title) for code, title in bundled_titles() if code[:2] in ("21", "22", "55")]
TREE = Taxonomy.from_codes(*zip(*ROWS, strict=True))
EVERYONE = np.arange(len(TREE))
TREE_DISTANCE = TREE.tree_distance(EVERYONE, EVERYONE).astype(np.float64)


def pairs_of(matrix: np.ndarray) -> Pairs:
    return all_pairs(MatrixDistances(matrix), TREE)


def noisy(scale: float = 1.0) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=TREE_DISTANCE.shape) * scale
    return TREE_DISTANCE + noise + noise.T


def test_every_pair_once() -> None:
    pairs = pairs_of(TREE_DISTANCE)
    count = len(TREE) * (len(TREE) - 1) // 2
    assert len({(a, b) for a, b in zip(pairs.a, pairs.b, strict=True)}) == count == len(pairs.a)
    assert (pairs.a < pairs.b).all()
    np.testing.assert_array_equal(pairs.distance, pairs.tree_distance)


def test_many_codes_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breakdown, "MAX_CODES", 20)
    pairs = pairs_of(TREE_DISTANCE)
    assert len(pairs.a) == 190
    np.testing.assert_array_equal(pairs.distance, TREE.pair_distance(pairs.a, pairs.b))


def test_the_fit_is_the_correlation_and_its_errors_add_up() -> None:
    pairs = pairs_of(noisy())
    for fit, reference in ((fit_distance(pairs), pearsonr), (fit_rank(pairs), spearmanr)):
        expected = reference(pairs.distance.astype(float), pairs.tree_distance).statistic
        assert fit.correlation == pytest.approx(expected, abs=1e-9)
        assert fit.error.sum() == pytest.approx(1 - expected**2, abs=1e-9)
        assert fit.spread + fit.bend == pytest.approx(1 - expected**2, abs=1e-9)
        assert fit.spread > 10 * fit.bend  # noise around a line


def test_a_bent_curve_without_spread_is_all_bend() -> None:
    fit = fit_distance(pairs_of(np.sqrt(TREE_DISTANCE)))
    assert fit.spread == pytest.approx(0, abs=1e-9)
    assert fit.bend == pytest.approx(1 - fit.correlation**2, abs=1e-9) != 0
    assert fit_rank(pairs_of(np.sqrt(TREE_DISTANCE))).correlation == pytest.approx(1)


def test_a_collapsed_embedding_explains_nothing() -> None:
    fit = fit_distance(pairs_of(np.ones_like(TREE_DISTANCE)))
    assert fit.correlation == 0
    assert fit.error.sum() == pytest.approx(1)


def test_rows_by_tree_distance_against_a_loop() -> None:
    pairs = pairs_of(noisy(2.0))
    rows = by_tree_distance(pairs)
    assert sum(row.pairs for row in rows) == len(pairs.a)
    two, three = (pairs.distance[pairs.tree_distance == t] for t in (2, 3))
    row = next(row for row in rows if row.tree_distance == 3)
    assert (row.mean, row.std) == pytest.approx((three.mean(), three.std()), rel=1e-5)
    wins = (three[:, None] > two[None, :]).mean()
    assert row.above_previous == pytest.approx(wins, abs=1e-6)
    assert np.isnan(rows[0].above_previous)


def test_ties_count_half() -> None:
    rows = by_tree_distance(pairs_of(np.ones_like(TREE_DISTANCE)))
    assert all(row.above_previous == 0.5 for row in rows[1:])


def test_the_group_with_planted_noise_carries_the_error() -> None:
    inside = np.array([code.startswith("22") for code in TREE.codes])
    matrix = TREE_DISTANCE + 0.01 * (noisy() - TREE_DISTANCE)
    matrix[np.ix_(inside, inside)] = noisy(3.0)[np.ix_(inside, inside)]
    pairs = pairs_of(matrix)
    labels = [sector_of(code) for code in TREE.codes]
    hits = np.where(inside, 0.25, 1.0)
    hits[TREE.depth == 1] = np.nan
    rows = by_group(pairs, fit_distance(pairs).error, labels, hits, np.ones(len(TREE)))
    assert [row.name for row in rows] == ["21", "22", "55"]
    assert sum(row.error_share for row in rows) == pytest.approx(1)
    assert sum(row.pair_share for row in rows) == pytest.approx(1)
    assert rows[1].error_share > 0.95 > rows[1].pair_share * 1.5
    assert [row.parent_hit for row in rows] == [1.0, 0.25, 1.0]
    assert [row.codes for row in rows] == [labels.count(row.name) for row in rows]
    ends = rows[1].codes * (len(TREE) - 1) / (len(TREE) * (len(TREE) - 1))
    assert rows[1].pair_share == pytest.approx(ends)


def test_contrast_by_hand() -> None:
    score = np.array([1.0, 0.0, 1.0, 0.5, np.nan, 9.0])
    has = np.array([True, True, False, False, False, True])
    found = contrast(score, has, np.array([True, True, True, True, True, False]))
    assert (found.with_count, found.without_count) == (2, 2)
    assert found.difference == pytest.approx(0.75 - 0.5)
    assert found.standard_error == pytest.approx(np.sqrt(0.25 / 1 + 0.0625 / 1))
    nobody = contrast(score, has, np.zeros(6, dtype=bool))
    assert np.isnan(nobody.difference)
