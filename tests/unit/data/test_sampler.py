"""Random numbers by position, the order of an epoch, positives."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chisquare

from naics_job.config.data_schema import PositiveWeights
from naics_job.data.relations import Relation
from naics_job.data.sampler import (
    EpochOrder,
    PositiveSampler,
    RowDraws,
    step_rng,
)
from naics_job.data.splits import split_families
from naics_job.data.triplets import positive_table
from naics_job.errors import ConfigError
from naics_job.taxonomy.codes import bundled_titles
from naics_job.taxonomy.tree import Taxonomy

NAICS = Taxonomy.from_codes(*zip(*bundled_titles(), strict=True))
EQUAL = PositiveWeights(parent=1, ancestor=1, child=1, descendant=1, sibling=1)
EVERYONE = np.ones(len(NAICS), dtype=bool)


def draws(rows: int, index: int = 0) -> RowDraws:
    return RowDraws(seed=3, epoch=1, index=index, start=0, num_rows=rows)


def test_a_generator_depends_on_each_of_its_arguments() -> None:
    base = (1, 2, 3, "order")
    first = step_rng(*base).random(4)
    np.testing.assert_array_equal(first, step_rng(*base).random(4))
    for other in ((0, 2, 3, "order"), (1, 1, 3, "order"), (1, 2, 4, "order"), (1, 2, 3, "x")):
        assert not np.isin(step_rng(*other).random(4), first).any()


def test_a_row_has_the_same_numbers_however_its_batch_is_cut() -> None:
    whole = draws(8).uniform("any", 5)
    part = RowDraws(seed=3, epoch=1, index=0, start=3, num_rows=2).uniform("any", 5)
    np.testing.assert_array_equal(whole[3:5], part)
    assert not np.isin(draws(8).uniform("other", 5), whole).any()


def test_an_epoch_visits_every_anchor_once_and_fills_the_last_batch() -> None:
    anchors = np.arange(100, 203)
    order = EpochOrder(anchors, seed=1, global_batch_size=10)
    assert order.num_batches == 11
    seen = np.concatenate([order.batch(0, index) for index in range(11)])
    assert sorted(seen[:103]) == anchors.tolist()
    np.testing.assert_array_equal(seen[103:], seen[:7])
    with pytest.raises(IndexError):
        order.batch(0, 11)


def test_a_batch_larger_than_the_anchors_repeats_them() -> None:
    order = EpochOrder(np.arange(4), seed=1, global_batch_size=10)
    assert order.num_batches == 1
    assert sorted(np.bincount(order.batch(0, 0)).tolist()) == [2, 2, 3, 3]


def test_seeking_equals_walking_and_epochs_differ() -> None:
    straight = EpochOrder(np.arange(97), seed=5, global_batch_size=8)
    walked = {(e, i): straight.batch(e, i) for e in range(3) for i in range(straight.num_batches)}
    for epoch, index in ((2, 9), (0, 3), (1, 12), (2, 0)):
        fresh = EpochOrder(np.arange(97), seed=5, global_batch_size=8).batch(epoch, index)
        np.testing.assert_array_equal(fresh, walked[epoch, index])
    assert (walked[0, 0] != walked[1, 0]).any()
    assert (EpochOrder(np.arange(97), 6, 8).batch(0, 0) != walked[0, 0]).any()


def test_positives_follow_the_weights_of_their_kinds() -> None:
    weights = PositiveWeights(parent=4, ancestor=1, child=0, descendant=0, sibling=2)
    anchor, rows = NAICS.position("111150"), 30_000
    sampler = PositiveSampler(positive_table(NAICS), EVERYONE, weights)
    positive, relation, distance, margin = sampler.draw(np.full(rows, anchor), draws(rows))
    chance = {"11115": 4.0, "1111": 1.0, "111": 1.0, "11": 1.0}  # an only child: no siblings
    codes = NAICS.positions(list(chance))
    observed = np.array([(positive == code).sum() for code in codes])
    expected = np.array(list(chance.values())) / sum(chance.values()) * rows
    assert observed.sum() == rows
    assert chisquare(observed, expected).pvalue > 1e-4
    np.testing.assert_array_equal(distance, NAICS.pair_distance(np.full(rows, anchor), positive))
    np.testing.assert_allclose(margin, 1 / distance)
    assert set(relation[positive == codes[0]]) == {Relation.PARENT}
    assert set(relation[positive == codes[2]]) == {Relation.ANCESTOR}


@pytest.mark.parametrize(
    ("kind", "up"), [("parent", True), ("ancestor", True), ("child", False), ("descendant", False)]
)
def test_a_kind_is_what_the_positive_is_to_the_anchor(kind: str, up: bool) -> None:
    none = PositiveWeights(parent=0, ancestor=0, child=0, descendant=0, sibling=1)
    weights = replace(none, **{kind: 1.0, "sibling": 0.0})
    sampler = PositiveSampler(positive_table(NAICS), EVERYONE, weights)
    positive = sampler.draw(sampler.anchors, draws(len(sampler.anchors)))[0]
    gap = NAICS.depth[positive].astype(int) - NAICS.depth[sampler.anchors]
    step = 1 if kind in ("parent", "child") else 2
    assert ((gap <= -step) if up else (gap >= step)).all()
    assert step == 2 or set(np.abs(gap)) == {1}


def test_a_held_out_code_is_neither_anchor_nor_positive() -> None:
    held = split_families(NAICS, 0.2, 0.2, seed=1).held()
    heldout = np.flatnonzero(held)
    sampler = PositiveSampler(positive_table(NAICS), ~held, EQUAL)
    assert len(heldout) > 0
    assert not np.isin(sampler.anchors, heldout).any()
    for index in range(5):
        positive = sampler.draw(sampler.anchors, draws(len(sampler.anchors), index))[0]
        assert not np.isin(positive, heldout).any()


def test_every_positive_of_an_anchor_can_come() -> None:
    anchor = NAICS.position("1111")
    table = positive_table(NAICS)
    sampler = PositiveSampler(table, EVERYONE, EQUAL)
    drawn = sampler.draw(np.full(5000, anchor), draws(5000))[0]
    expected = table.positive[table.offsets[anchor] : table.offsets[anchor + 1]]
    assert set(drawn) == set(expected)


def test_kinds_that_leave_nothing_are_refused() -> None:
    sectors = Taxonomy.from_codes(["11", "21"], ["a", "b"])
    with pytest.raises(ConfigError, match="no code has a positive"):
        PositiveSampler(positive_table(sectors), np.ones(2, dtype=bool), EQUAL)
