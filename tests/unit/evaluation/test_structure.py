"""Correlations, distortion and effective rank against scipy and closed forms."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import pearsonr, spearmanr

from naics_job.evaluation import structure
from naics_job.evaluation.distances import MatrixDistances
from naics_job.evaluation.structure import (
    PairSample,
    collect_pairs,
    cophenetic,
    distortion,
    effective_rank,
    pair_metrics,
    pearson,
    radius_by_level,
    spearman,
)
from naics_job.taxonomy.tree import Taxonomy

TREE = Taxonomy.from_codes(("11", "111", "1111", "1112", "112", "21", "211"), tuple("abcdefg"))


def random_pairs(count: int = 500, *, ties: bool = False) -> PairSample:
    rng = np.random.default_rng(0)
    tree = rng.integers(1, 11, count)
    distance = tree + rng.normal(0, 2, count).clip(-0.9, 9)
    return PairSample(np.round(distance) if ties else distance, tree, sampled=False)


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "tied"])
def test_correlations_agree_with_scipy(ties: bool) -> None:
    pairs = random_pairs(ties=ties)
    expected = pearsonr(pairs.distance, pairs.tree_distance).statistic
    assert cophenetic(pairs) == pytest.approx(expected)
    assert spearman(pairs) == pytest.approx(
        spearmanr(pairs.distance, pairs.tree_distance).statistic
    )


def test_tree_distances_themselves_are_perfect_in_any_unit() -> None:
    pairs = random_pairs()
    scaled = PairSample(3.7 * pairs.tree_distance, pairs.tree_distance, sampled=False)
    perfect = {"cophenetic": 1.0, "spearman": 1.0, "distortion": 0.0}
    assert pair_metrics(scaled) == pytest.approx(perfect, abs=1e-9)


def test_constant_distances_have_no_correlation_and_full_distortion() -> None:
    tree = random_pairs().tree_distance
    flat = PairSample(np.full(500, 0.1, dtype=np.float32), tree, sampled=False)
    assert cophenetic(flat) == spearman(flat) == 0
    zero = PairSample(np.zeros(500, dtype=np.float32), tree, sampled=False)
    assert distortion(zero) == 1
    assert pearson(np.array([1e-9, 2e-9, 4e-9]), np.array([1, 2, 4])) == pytest.approx(1)


def test_distortion_takes_the_best_single_scale() -> None:
    pairs = random_pairs(101)
    ratio = pairs.distance / pairs.tree_distance
    best = minimize_scalar(
        lambda s: np.abs(s * ratio - 1).mean(), bounds=(0, 10), options={"xatol": 1e-9}
    )
    assert distortion(pairs) == pytest.approx(best.fun, abs=1e-7)
    assert distortion(pairs) <= np.abs(ratio - 1).mean()
    hand = PairSample(np.array([1.0, 2.0, 3.0]), np.array([1, 1, 1]), sampled=False)
    # ratios 1, 2, 3: s = 1/2 gives 1/2, 0, 1/2; s = 1/3 gives 2/3, 1/3, 0
    assert distortion(hand) == pytest.approx(1 / 3)


@pytest.mark.parametrize("block_rows", [1, 3, 100])
def test_every_pair_is_collected_once(block_rows: int) -> None:
    matrix = np.arange(49, dtype=float).reshape(7, 7)
    everyone = np.arange(7)
    pairs = collect_pairs(MatrixDistances(matrix), TREE, everyone, block_rows)
    upper = np.triu_indices(7, 1)
    np.testing.assert_array_equal(pairs.distance, matrix[upper])
    np.testing.assert_array_equal(pairs.tree_distance, TREE.pair_distance(*upper))
    assert not pairs.sampled


def test_heldout_pairs_reach_all_codes_and_count_once() -> None:
    matrix = np.add.outer(np.arange(7.0), np.arange(7.0))  # symmetric
    matrix += 100 * np.minimum.outer(np.arange(7.0), np.arange(7.0))
    pairs = collect_pairs(MatrixDistances(matrix), TREE, np.array([2, 5]), 1)
    expected = [matrix[2, j] for j in (0, 1, 3, 4, 5, 6)] + [matrix[5, j] for j in (0, 1, 3, 4, 6)]
    np.testing.assert_array_equal(np.sort(pairs.distance), np.sort(np.float32(expected)))


def test_too_many_pairs_are_sampled_and_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.random((7, 7)) + np.diag(np.full(7, np.nan))  # a code with itself would show
    everyone = np.arange(7)
    monkeypatch.setattr(structure, "MAX_EXACT_PAIRS", 48)
    monkeypatch.setattr(structure, "NUM_SAMPLED_PAIRS", 20_000)
    first, second = (collect_pairs(MatrixDistances(matrix), TREE, everyone, 8) for _ in range(2))
    assert first.sampled
    assert len(first.distance) == 20_000
    np.testing.assert_array_equal(first.distance, second.distance)
    upper = matrix[~np.eye(7, dtype=bool)]
    assert first.distance.mean() == pytest.approx(upper.mean(), abs=0.01)
    assert len(np.unique(first.distance)) == 42


def test_effective_rank_closed_forms() -> None:
    generator = torch.Generator().manual_seed(0)
    line = torch.linspace(-1, 1, 50)[:, None] * torch.tensor([[1.0, 2.0, 2.0]]) + 5
    assert effective_rank(line) == pytest.approx(1, abs=1e-3)
    cross = torch.cat([torch.eye(4), -torch.eye(4)])
    assert effective_rank(cross) == pytest.approx(4)
    uneven = torch.cat(
        [torch.diag(torch.tensor([3.0, 1.0])), -torch.diag(torch.tensor([3.0, 1.0]))]
    )
    expected = np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    assert effective_rank(uneven) == pytest.approx(expected)
    assert effective_rank(torch.ones(20, 3)) == 0
    assert effective_rank(torch.randn(20_000, 6, generator=generator)) == pytest.approx(6, abs=0.01)


def test_radius_by_level_is_a_mean_per_level() -> None:
    radius = np.array([1.0, 2.0, 5.0, 7.0, 4.0, 3.0, 6.0])
    assert radius_by_level(radius, TREE) == {2: 2.0, 3: 4.0, 4: 6.0}
