"""Negatives by tree distance against a dense reference, masks, exclusions, buckets."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from naics_job.data.negatives import TreeNegativeSampler
from naics_job.data.sampler import RowDraws
from naics_job.errors import ConfigError
from naics_job.taxonomy.codes import bundled_titles
from naics_job.taxonomy.tree import BoolArray, IntArray, Taxonomy

SECTORS = ("11", "21", "22", "23", "55")


def part_of_naics(sectors: tuple[str, ...]) -> Taxonomy:
    rows = [row for row in bundled_titles() if row[0].startswith(sectors)]
    return Taxonomy.from_codes([code for code, _ in rows], [title for _, title in rows])


SMALL = part_of_naics(SECTORS)
EVERYONE = np.arange(len(SMALL))


def exclusions_of(pairs: dict[int, list[int]]) -> tuple[IntArray, IntArray]:
    counts = [len(pairs.get(code, [])) for code in EVERYONE]
    flat = [other for code in EVERYONE for other in pairs.get(code, [])]
    return np.concatenate([[0], np.cumsum(counts)]), np.array(flat, dtype=np.int64)


def sampler(
    allowed: BoolArray | None = None, pairs: dict[int, list[int]] | None = None
) -> TreeNegativeSampler:
    mask = np.ones(len(SMALL), dtype=bool) if allowed is None else allowed
    return TreeNegativeSampler(SMALL, exclusions_of(pairs or {}), mask)


def draws(rows: int, index: int = 0) -> RowDraws:
    return RowDraws(seed=7, epoch=0, index=index, start=0, num_rows=rows)


@functools.cache
def slow_distance(anchor: int, code: int) -> tuple[int, int] | None:
    """Depth of the shared ancestor and tree distance by digits, None for a relative in line."""
    a, b = SMALL.codes[anchor], SMALL.codes[code]
    if a.startswith(b) or b.startswith(a):
        return None
    shared = next(n for n in range(6, -1, -1) if a[:n] == b[:n] and n != 1)
    depth_a, depth_b, depth_shared = len(a) - 1, len(b) - 1, max(shared - 1, 0)
    return depth_shared, depth_a + depth_b - 2 * depth_shared


def dense_weight(anchor: int, alpha: float, threshold: int, allowed: BoolArray) -> np.ndarray:
    """The slow reference: one weight per code of the taxonomy."""
    weight = np.zeros(len(SMALL))
    for code in EVERYONE:
        found = slow_distance(int(anchor), int(code))
        if found is None or not allowed[code]:
            continue
        depth_shared, distance = found
        if not (depth_shared >= 1 and distance <= threshold):
            weight[code] = distance**-alpha
    return weight


@pytest.mark.parametrize("code", ["11", "1111", "111110", "212"])
@pytest.mark.parametrize(("alpha", "threshold"), [(1.5, 2), (0.0, 4), (3.0, 0)])
def test_first_draw_has_the_frequencies_of_the_dense_reference(
    code: str, alpha: float, threshold: int
) -> None:
    allowed = np.ones(len(SMALL), dtype=bool)
    allowed[SMALL.positions(["111120", "112112", "221210"])] = False
    anchor = SMALL.position(code)
    rows = 40_000
    drawn = sampler(allowed).draw(np.full(rows, anchor), 1, alpha, threshold, 0.0, draws(rows))
    weight = dense_weight(anchor, alpha, threshold, allowed)
    observed = np.bincount(drawn[:, 0], minlength=len(SMALL))
    assert not observed[weight == 0].any()
    possible = weight > 0
    expected = weight[possible] / weight.sum() * rows
    assert chisquare(observed[possible], expected).pvalue > 1e-4


@pytest.mark.parametrize("alpha", [2.0, 12.0])  # 12: independent draws repeat, `_complete` goes on
def test_later_draws_are_successive_sampling(alpha: float) -> None:
    anchor, rows = SMALL.position("55"), 60_000
    allowed = np.zeros(len(SMALL), dtype=bool)
    few = SMALL.positions(["11", "21", "2111", "211120"])
    allowed[few] = True
    drawn = sampler(allowed).draw(np.full(rows, anchor), 3, alpha, 0, 0.0, draws(rows))
    weight = dense_weight(anchor, alpha, 0, allowed)[few]
    expected = np.zeros((3, 4))
    for order in itertools.permutations(range(4), 3):
        chance, left = 1.0, weight.sum()
        for code in order:
            chance, left = chance * weight[code] / left, left - weight[code]
        for place, code in enumerate(order):
            expected[place, code] += chance * rows
    for place in range(3):
        observed = np.array([(drawn[:, place] == code).sum() for code in few])
        common = expected[place] > 5
        assert observed[~common].sum() < 30
        reference = expected[place][common] * observed[common].sum() / expected[place][common].sum()
        assert chisquare(observed[common], reference).pvalue > 1e-4


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    alpha=st.floats(0, 12),
    threshold=st.integers(0, 9),
    k=st.integers(1, 40),
    share=st.floats(0, 1),
)
def test_masks_are_never_violated(
    seed: int, alpha: float, threshold: int, k: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    allowed = rng.random(len(SMALL)) > 0.2
    pairs = {int(code): list(rng.choice(EVERYONE, 6, replace=False)) for code in EVERYONE[::3]}
    tested = sampler(allowed, pairs)
    anchors = rng.choice(EVERYONE, 12)
    drawn = tested.draw(anchors, k, alpha, threshold, share, draws(12, seed))
    assert drawn.shape == (12, k)
    for anchor, row in zip(anchors, drawn, strict=True):
        weight = dense_weight(anchor, 1.0, threshold, allowed)
        if not weight.any():
            weight = dense_weight(anchor, 1.0, 0, allowed)
        assert (weight[row] > 0).all()
        assert len(set(row)) == min(k, (weight > 0).sum())
    mask = tested.masked(anchors, EVERYONE, threshold)
    dense = np.array([dense_weight(anchor, 0.0, threshold, allowed) > 0 for anchor in anchors])
    np.testing.assert_array_equal(~mask, dense)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_share_of_exclusions_is_kept_in_the_mean(share: float) -> None:
    anchor, rows, k = SMALL.position("111110"), 4000, 12
    named = SMALL.positions(["2131", "2211", "236", "237", "238", "5511", "212"])
    drawn = sampler(pairs={anchor: list(named)}).draw(
        np.full(rows, anchor), k, 8.0, 2, share, draws(rows)
    )
    from_exclusions = np.isin(drawn, named).sum(axis=1)
    base = sampler().draw(np.full(rows, anchor), k, 8.0, 2, 0.0, draws(rows))
    assert np.isin(base, named).mean() < 0.01  # alpha 8: the far ones hardly come by themselves
    assert from_exclusions.mean() == pytest.approx(share * k, abs=0.05)
    assert set(np.unique(from_exclusions)) <= {
        int(share * k),
        int(share * k) + 1,
        int(share * k) + 2,
    }


def test_lineal_and_held_out_exclusions_are_ignored() -> None:
    anchor = SMALL.position("111110")
    allowed = np.ones(len(SMALL), dtype=bool)
    allowed[SMALL.position("212")] = False
    pairs = {
        anchor: list(SMALL.positions(["111", "212", "111120"]))
    }  # parent, held out, sibling-ish
    drawn = sampler(allowed, pairs).draw_exclusions(
        np.array([anchor]), np.array([10]), 1.0, 4, draws(1)
    )
    assert (drawn == -1).all()
    wider = sampler(allowed, pairs).draw_exclusions(
        np.array([anchor]), np.array([10]), 1.0, 2, draws(1)
    )
    assert [SMALL.codes[code] for code in wider[0] if code >= 0] == ["111120"]


def test_avoided_codes_are_not_drawn_again() -> None:
    anchors = SMALL.positions(["111110", "21"])
    tested = sampler()
    weight = tested.weight(anchors, 1.5, 0)
    need = np.array([30, 10])
    nobody = np.empty((2, 0), dtype=np.int64)
    first = tested.draw_weighted(anchors, 30, need, weight, nobody, draws(2))
    second = tested.draw_weighted(anchors, 30, need, weight, first, draws(2))
    assert [(row >= 0).sum() for row in first] == [30, 10]
    for left, right in zip(first, second, strict=True):
        assert not set(left[left >= 0]) & set(right)
    everything = np.tile(EVERYONE, (2, 1))
    assert (tested.draw_weighted(anchors, 30, need, weight, everything, draws(2)) == -1).all()


def test_a_row_that_asks_for_every_candidate_gets_each_once() -> None:
    anchor = np.array([SMALL.position("111110")])
    count = int(sampler().num_candidates(anchor)[0])
    dense = dense_weight(int(anchor[0]), 0.0, 0, np.ones(len(SMALL), dtype=bool)) > 0
    assert count == dense.sum()
    drawn = sampler().draw(anchor, count, 6.0, 0, 0.0, draws(1))
    assert set(drawn[0]) == set(np.flatnonzero(dense))


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_buckets_have_exact_counts(share: float) -> None:
    anchors = SMALL.positions(["111110", "1121", "212210"])
    drawn = sampler().draw_buckets(anchors, 8, 4, share, draws(3))
    near = np.array([SMALL.tree_distance(anchors[[r]], drawn[r])[0] <= 4 for r in range(3)])
    assert near.sum(axis=1).tolist() == [round(share * 8)] * 3
    assert all(len(set(row)) == 8 for row in drawn)
    assert not sampler().masked(anchors, drawn.ravel(), 0)[0, :8].any()


def test_a_bucket_that_is_too_small_leaves_its_share_to_the_other() -> None:
    anchor = SMALL.positions(["55"])  # a sector with one child line: near are the other sectors
    drawn = sampler().draw_buckets(anchor, 20, 2, 0.9, draws(1))
    distance = SMALL.tree_distance(anchor, drawn[0])[0]
    assert (distance <= 2).sum() == 4
    assert len(set(drawn[0])) == 20


def test_draws_are_a_function_of_the_row_alone() -> None:
    anchors = SMALL.positions(["111110", "21", "2211", "238110", "55", "112"])
    pairs = {int(anchors[4]): list(SMALL.positions(["111", "212"]))}
    tested = sampler(pairs=pairs)
    whole = tested.draw(anchors, 30, 9.0, 2, 0.3, draws(6))
    again = tested.draw(anchors, 30, 9.0, 2, 0.3, draws(6))
    np.testing.assert_array_equal(whole, again)
    for start in range(6):
        part = RowDraws(seed=7, epoch=0, index=0, start=start, num_rows=1)
        np.testing.assert_array_equal(
            tested.draw(anchors[start : start + 1], 30, 9.0, 2, 0.3, part)[0], whole[start]
        )
    other = tested.draw(anchors, 30, 9.0, 2, 0.3, draws(6, index=1))
    assert (other != whole).any(axis=1).all()


def test_uniform_negatives_ignore_distance() -> None:
    anchor, rows = SMALL.position("111110"), 20_000
    drawn = sampler().draw_uniform(np.full(rows, anchor), 1, draws(rows))
    possible = dense_weight(anchor, 0.0, 0, np.ones(len(SMALL), dtype=bool)) > 0
    observed = np.bincount(drawn[:, 0], minlength=len(SMALL))
    assert chisquare(observed[possible]).pvalue > 1e-4


def test_too_many_negatives_are_refused_with_the_maximum() -> None:
    most = int(sampler().num_candidates(EVERYONE).max())
    assert len(sampler().usable_anchors(EVERYONE, most)) == len(SMALL)
    with pytest.raises(ConfigError, match=rf"num_negatives={most + 1}.*at most {most} codes"):
        sampler().usable_anchors(EVERYONE, most + 1)


def test_an_anchor_without_candidates_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    single = part_of_naics(("55",))  # 55, 551, 5511, 55111, then 551111, 551112, 551114
    tested = TreeNegativeSampler(
        single, (np.zeros(len(single) + 1, int), np.empty(0, int)), np.ones(len(single), bool)
    )
    with caplog.at_level("WARNING"):
        usable = tested.usable_anchors(np.arange(len(single)), 2)
    assert [single.codes[code] for code in usable] == ["551111", "551112", "551114"]
    assert "few_candidates" in caplog.text
    repeated = tested.draw(usable, 5, 1.0, 0, 0.0, draws(3))
    assert [len(set(row)) for row in repeated] == [2, 2, 2]
