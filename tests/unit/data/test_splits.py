"""Splits by whole families: disjoint, spread over sectors, the same for a seed."""

import numpy as np
import pytest

from naics_job.data.composed import composed_channels
from naics_job.data.preprocess import cut_slice
from naics_job.data.splits import Splits, split_families
from naics_job.errors import ConfigError
from naics_job.taxonomy.codes import bundled_titles
from naics_job.taxonomy.tree import IntArray, Taxonomy

NAICS = Taxonomy.from_codes(*zip(*bundled_titles(), strict=True))


def six_digit(taxonomy: Taxonomy, positions: IntArray) -> IntArray:
    return np.intersect1d(positions, taxonomy.six_digit())


def check(taxonomy: Taxonomy, splits: Splits) -> None:
    """Every code once, whole families, and in every sector something to train."""
    parts = (splits.train, splits.validation, splits.test)
    for part in parts:
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(taxonomy)))
    for part in parts:
        leaves = six_digit(taxonomy, part)
        families = np.unique(taxonomy.parent[leaves])
        assert np.isin(families, part).all()
        assert np.isin(taxonomy.parent[taxonomy.six_digit()], families).sum() == len(leaves)
    held = np.concatenate(parts[1:])
    assert (taxonomy.depth[held] >= taxonomy.max_depth - 1).all()
    trained = six_digit(taxonomy, splits.train)
    assert set(taxonomy.ancestors[trained, 1]) == set(taxonomy.ancestors[taxonomy.six_digit(), 1])
    np.testing.assert_array_equal(np.flatnonzero(splits.held()), np.sort(held))


@pytest.mark.parametrize("seed", range(5))
def test_shares_of_the_bundled_table(seed: int) -> None:
    splits = split_families(NAICS, 0.05, 0.10, seed)
    check(NAICS, splits)
    assert abs(len(six_digit(NAICS, splits.validation)) - 51) <= 2
    assert abs(len(six_digit(NAICS, splits.test)) - 101) <= 2


def test_sectors_give_in_proportion() -> None:
    splits = split_families(NAICS, 0.0, 0.10, 3)
    sector = NAICS.ancestors[:, 1]
    for name in np.unique(sector):
        leaves = np.flatnonzero((sector == name) & (NAICS.depth == NAICS.max_depth))
        given = np.isin(leaves, splits.test).sum()
        assert abs(given - 0.10 * len(leaves)) <= 5  # the size of a family


def test_large_families_are_held_out_too() -> None:
    sizes = [
        np.bincount(NAICS.parent[six_digit(NAICS, split_families(NAICS, 0, 0.2, seed).test)]).max()
        for seed in range(10)
    ]
    assert max(sizes) >= 4


def test_the_seed_decides_and_test_does_not_depend_on_validation() -> None:
    first, again = (split_families(NAICS, 0.05, 0.10, 7) for _ in range(2))
    np.testing.assert_array_equal(first.validation, again.validation)
    np.testing.assert_array_equal(first.test, again.test)
    np.testing.assert_array_equal(first.test, split_families(NAICS, 0.2, 0.10, 7).test)
    other = split_families(NAICS, 0.05, 0.10, 8)
    assert not np.array_equal(first.test, other.test)
    assert not np.array_equal(first.validation, other.validation)


def test_a_share_of_nothing_is_empty_and_the_smallest_is_one_family() -> None:
    splits = split_families(NAICS, 0.0, 0.0, 1)
    assert len(splits.train) == len(NAICS)
    assert not splits.held().any()
    splits = split_families(NAICS, 1e-6, 1e-6, 1)
    check(NAICS, splits)
    for part in (splits.validation, splits.test):
        assert len(np.unique(NAICS.parent[six_digit(NAICS, part)])) == 1


@pytest.mark.parametrize("seed", range(5))
def test_a_slice_of_sixty_codes(seed: int) -> None:
    rows = cut_slice(composed_channels(NAICS), [], 60)
    taxonomy = Taxonomy.from_codes([row.code for row in rows], [row.title for row in rows])
    splits = split_families(taxonomy, 0.05, 0.10, seed)
    check(taxonomy, splits)
    assert len(splits.validation)
    assert len(splits.test)


def test_one_family_of_each_sector_is_kept_at_any_share() -> None:
    splits = split_families(NAICS, 0.45, 0.5, 2)
    check(NAICS, splits)
    one_family = NAICS.subtree_end[NAICS.position("55")]
    assert np.isin(np.arange(NAICS.position("55"), one_family), splits.train).all()


def test_a_taxonomy_that_is_not_naics_with_branches_of_different_depth() -> None:
    #          a                 b
    #    a1   a2   a3(leaf)   b1    b2
    #   x y   z               u     v
    codes = ["a", "a1", "a1x", "a1y", "a2", "a2z", "a3", "b", "b1", "b1u", "b2", "b2v"]
    parent = np.array([-1, 0, 1, 1, 0, 4, 0, -1, 7, 8, 7, 10])
    taxonomy = Taxonomy.from_parents(codes, codes, parent)
    for seed in range(10):
        splits = split_families(taxonomy, 0.2, 0.2, seed)
        check(taxonomy, splits)
        assert len(splits.validation) >= 2
        assert len(splits.test) >= 2


def test_a_single_family_cannot_be_held_out() -> None:
    taxonomy = Taxonomy.from_codes(["11", "111", "1111", "11111", "111110"], ["t"] * 5)
    assert len(split_families(taxonomy, 0.0, 0.0, 1).train) == 5
    with pytest.raises(ConfigError, match="no family is left"):
        split_families(taxonomy, 0.1, 0.0, 1)


@pytest.mark.parametrize("shares", [(0.5, 0.5), (-0.1, 0.2), (0.0, 1.0)])
def test_impossible_shares(shares: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="leave no training"):
        split_families(NAICS, *shares, 1)
