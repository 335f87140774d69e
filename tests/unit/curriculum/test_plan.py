"""Which codes the planner chooses, keeps, drops and pulls, phase by phase."""

import functools

import numpy as np
import pytest
import torch

from naics_job.config.load import load_config
from naics_job.config.schema import Config
from naics_job.curriculum.false_negatives import ClusterState
from naics_job.curriculum.mining import MemoryBank
from naics_job.curriculum.plan import NegativePlanner, Shares
from naics_job.curriculum.schedule import Borders, Curriculum, PhaseState
from naics_job.data.negatives import TreeNegativeSampler
from naics_job.data.sampler import AnchorBatch
from naics_job.geometry.lorentz import exp_map_origin, pairwise_distance
from naics_job.taxonomy.codes import bundled_titles
from naics_job.taxonomy.tree import IntArray, Taxonomy

ROWS = [row for row in bundled_titles() if row[0].startswith(("11", "21", "22", "55"))]
TREE = Taxonomy.from_codes(*zip(*ROWS, strict=True))
EVERYONE = np.arange(len(TREE))
HELDOUT = TREE.positions(["111120", "112112", "212210", "221210"])
ALLOWED = ~np.isin(EVERYONE, HELDOUT)
ANCHORS = TREE.positions(["111110", "1121", "212220", "22", "551111", "114"])
K = 20
NOT_MINED = ("curriculum.anneal.hard_share_start=0", "curriculum.anneal.hard_share_end=0")
STEPS = {1: 0, 2: 50, 3: 90}  # a step in each phase of 100


@functools.cache
def settings(overrides: tuple[str, ...]) -> Config:
    borders = ["curriculum.phase1_end=0.3", "curriculum.phase2_end=0.7"]
    mining = "loss.code_contrastive_weight=0.1"  # of codes for codes
    wanted = [f"data_loader.num_negatives={K}", mining, *borders, *overrides]
    return load_config(None, "smoke", wanted).config


def planner(*overrides: str) -> NegativePlanner:
    config = settings(overrides)
    bank = MemoryBank(ALLOWED, 6, 4)
    generator = torch.Generator().manual_seed(0)
    points = exp_map_origin(torch.randn(len(TREE), 6, generator=generator), 1.0)
    gates = torch.randn(len(TREE), 4, generator=generator).softmax(dim=1)
    bank.update(torch.arange(len(TREE)), points, gates)
    offsets = np.zeros(len(TREE) + 1, dtype=np.int64)
    offsets[ANCHORS[0] + 1 :] = 3  # the first anchor names three exclusions
    excluded = TREE.positions(["2121", "2131", "221"])
    sampler = TreeNegativeSampler(TREE, (offsets, excluded), ALLOWED)
    return NegativePlanner(config, sampler, bank, ClusterState(len(TREE)))


def state(phase: int, *overrides: str) -> PhaseState:
    config = settings(overrides)
    borders = Borders.planned(config.curriculum, 100, None)
    return Curriculum(config.curriculum, config.sampling, borders).at(STEPS[phase])


def batch(index: int = 0, anchors: IntArray = ANCHORS) -> AnchorBatch:
    rest = np.ones(len(anchors), dtype=np.int8)
    return AnchorBatch(0, index, anchors, anchors, rest, rest, np.ones(len(anchors), np.float32))


@pytest.mark.parametrize("phase", [1, 2, 3])
@pytest.mark.parametrize("strategy", ["sadc", "sans_static"])
def test_a_row_is_distinct_and_holds_no_relative_in_line_and_no_held_out_code(
    phase: int, strategy: str
) -> None:
    option = f"sampling.strategy={strategy}"
    tested = planner(option)
    for index in range(5):
        chosen = tested.choose(batch(index), state(phase, option))
        assert chosen.shape == (len(ANCHORS), K)
        assert all(len(set(row)) == K for row in chosen)
        assert not np.isin(chosen, HELDOUT).any()
        for row, anchor in enumerate(ANCHORS):
            assert not TREE.is_lineal(np.array([anchor]), chosen[row]).any()


@pytest.mark.parametrize("phase", [1, 2, 3])
def test_choices_are_a_function_of_the_batch_and_the_row(phase: int) -> None:
    tested = planner()
    whole = tested.choose(batch(3), state(phase))
    np.testing.assert_array_equal(whole, planner().choose(batch(3), state(phase)))
    part = tested.choose(batch(3, anchors=ANCHORS[:4]), state(phase))
    np.testing.assert_array_equal(whole[:4], part)
    assert (whole != tested.choose(batch(4), state(phase))).any()


def distances(tested: NegativePlanner, chosen: IntArray) -> float:
    points = tested.bank.points
    table = pairwise_distance(points[torch.from_numpy(ANCHORS)], points, 1.0).numpy()
    return float(np.take_along_axis(table, chosen, axis=1).mean())


def test_mining_changes_the_choice_and_chooses_nearer_codes() -> None:
    tested = planner("curriculum.router_mix_ratio=0.0")
    early, late = state(1), state(3, "curriculum.router_mix_ratio=0.0")
    drawn, mined = tested.choose(batch(), early), tested.choose(batch(), late)
    shared = [len(set(a) & set(b)) for a, b in zip(drawn, mined, strict=True)]
    assert max(shared) < K
    assert distances(tested, mined) < 0.8 * distances(tested, drawn)
    nothing = tested.choose(batch(), state(2, *NOT_MINED))
    assert distances(tested, mined) < 0.8 * distances(tested, nothing)


def test_no_code_is_mined_for_codes_that_no_term_contrasts() -> None:
    tested = planner("loss.code_contrastive_weight=0")
    drawn = tested.choose(batch(), state(2, *NOT_MINED))
    np.testing.assert_array_equal(tested.choose(batch(), state(2)), drawn)
    assert (planner().choose(batch(), state(2)) != drawn).any()
    assert tested.mined is None
    nobody = np.full(len(ANCHORS), -1)
    tested.text_weights(ANCHORS, nobody, state(2), np.zeros(2))
    assert tested.mined is not None
    assert (tested.mined[1] >= 0).sum() > 0


@pytest.mark.parametrize(
    ("hard", "router", "expected"),
    [
        (0.5, 0.4, (6, 4, 10)),
        (1.0, 0.0, (20, 0, 0)),
        (1.0, 1.0, (0, 20, 0)),
        (0.0, 0.5, (0, 0, 20)),
    ],
)
def test_shares_are_exact_counts_from_disjoint_sources(
    hard: float, router: float, expected: tuple[int, int, int]
) -> None:
    options = [
        f"curriculum.anneal.hard_share_start={hard}",
        f"curriculum.anneal.hard_share_end={hard}",
        f"curriculum.router_mix_ratio={router}",
    ]
    asked = state(2, *options)
    for chance in (0.0, 0.99):
        assert Shares.of(asked, K, np.full(2, chance)) == Shares(*expected)
    tested = planner(*options)
    chosen = tested.choose(batch(), asked)
    num_hard, num_router, _ = expected
    points, gates = tested.bank.points, tested.bank.gates.double()
    table = pairwise_distance(points[torch.from_numpy(ANCHORS)], points, 1.0).numpy()
    for row, anchor in enumerate(ANCHORS):
        candidates = np.flatnonzero(~tested.sampler.masked(np.array([anchor]), EVERYONE, 0)[0])
        nearest = candidates[np.argsort(table[row, candidates])][:num_hard]
        assert chosen[row, :num_hard].tolist() == nearest.tolist()
        rest = np.setdiff1d(candidates, nearest)
        own = gates[anchor]
        divergence = (own * (own.log() - gates[rest].log())).sum(dim=1).numpy()
        alike = rest[np.argsort(divergence)][:num_router]
        assert chosen[row, num_hard : num_hard + num_router].tolist() == alike.tolist()


def test_shares_of_few_negatives_are_right_in_the_mean() -> None:
    asked = state(2, *(f"curriculum.anneal.hard_share_{end}=0.3" for end in ("start", "end")))
    rng = np.random.default_rng(0)
    counts = [Shares.of(asked, 2, rng.random(2)) for _ in range(4000)]
    assert all(sum(vars(found).values()) == 2 for found in counts)
    mined = np.mean([found.num_hard + found.num_router for found in counts])
    router = np.mean([found.num_router for found in counts])
    assert mined == pytest.approx(0.6, abs=0.04)
    assert router == pytest.approx(0.6 * 0.35, abs=0.03)


def test_what_the_bank_cannot_give_is_drawn() -> None:
    tested = planner()
    tested.bank.filled[:] = False
    chosen = tested.choose(batch(), state(3))
    assert all(len(set(row)) == K for row in chosen)
    tested.bank.filled[ANCHORS[0]] = tested.bank.filled[TREE.position("2122")] = True
    some = tested.choose(batch(), state(3))
    assert some[0, 0] == TREE.position("2122")
    assert all(len(set(row)) == K for row in some)


def test_exclusions_are_favoured_in_every_phase() -> None:
    tested = planner("curriculum.exclusion_share=1.0")
    for phase in (1, 2, 3):
        chosen = tested.choose(batch(), state(phase))
        assert np.isin(TREE.positions(["2121", "2131", "221"]), chosen[0]).all()


def test_static_buckets_replace_every_phase() -> None:
    option = "sampling.strategy=sans_static"
    tested = planner(option, "sampling.sans_static.near_share=0.3")
    for phase in (1, 2, 3):
        chosen = tested.choose(batch(), state(phase, option))
        distance = np.array(
            [TREE.tree_distance(ANCHORS[[row]], chosen[row])[0] for row in (0, 1, 2)]
        )
        assert (distance <= 4).sum(axis=1).tolist() == [6, 6, 6]
    np.testing.assert_array_equal(
        tested.choose(batch(), state(1, option)), tested.choose(batch(), state(3, option))
    )


def test_phase_1_masks_side_relatives_and_later_phases_do_not() -> None:
    tested = planner("curriculum.sibling_distance_threshold=2")
    anchor = TREE.positions(["111110"])
    codes = TREE.positions(["111110", "11111", "11", "111120", "11112", "111140", "21", "212220"])
    names = [TREE.codes[code] for code in codes]
    early = dict(zip(names, tested.keep(anchor, codes, state(1))[0], strict=True))
    late = dict(zip(names, tested.keep(anchor, codes, state(2))[0], strict=True))
    never = ["111110", "11111", "11", "111120"]  # itself, in line, in line, held out
    assert not any(early[name] or late[name] for name in never)
    assert all(late[name] for name in ("11112", "111140", "21", "212220"))
    near = TREE.positions(["1112"]), TREE.positions(["1111", "1113", "212"])
    assert tested.keep(*near, state(1)).tolist() == [[False, False, True]]
    assert tested.keep(*near, state(2)).tolist() == [[True, True, True]]


def clusters(tested: NegativePlanner) -> None:
    labels = np.full(len(TREE), -1)
    labels[TREE.positions(["111110", "111140", "2122", "212220", "11"])] = 5
    labels[TREE.positions(["2211"])] = 6
    tested.clusters.assign(labels, epoch=1)


@pytest.mark.parametrize(
    ("strategy", "dropped", "pulled"),
    [("eliminate", True, False), ("attract", False, True), ("hybrid", True, True)],
)
def test_strategies_differ_in_what_they_do_with_a_pair_of_one_cluster(
    strategy: str, dropped: bool, pulled: bool
) -> None:
    tested = planner(f"false_negatives.strategy={strategy}")
    clusters(tested)
    anchor = TREE.positions(["111110"])
    codes = TREE.positions(["111110", "11", "111140", "2122", "2211", "22"])
    keep = tested.keep(anchor, codes, state(3))[0].tolist()
    assert keep == [False, False, not dropped, not dropped, True, True]
    assert tested.num_masked == (2 if dropped else 0)
    attract = tested.attract(anchor, codes, state(3))[0].tolist()
    assert attract == [False, False, pulled, pulled, False, False]  # never itself or in line


@pytest.mark.parametrize("phase", [1, 2])
def test_clusters_act_in_phase_3_only(phase: int) -> None:
    tested = planner("false_negatives.strategy=hybrid", "curriculum.sibling_distance_threshold=0")
    clusters(tested)
    anchor, codes = TREE.positions(["111110"]), TREE.positions(["111140", "2122"])
    assert tested.keep(anchor, codes, state(phase)).all()
    assert not tested.attract(anchor, codes, state(phase)).any()
    assert tested.num_masked == 0


def test_static_buckets_know_no_clusters() -> None:
    option = "sampling.strategy=sans_static"
    tested = planner(option, "false_negatives.strategy=hybrid")
    clusters(tested)
    anchor, codes = TREE.positions(["111110"]), TREE.positions(["111140", "2122", "1113"])
    for phase in (1, 3):
        assert tested.keep(anchor, codes, state(phase, option)).all()
        assert not tested.attract(anchor, codes, state(phase, option)).any()


def test_clusters_of_before_do_nothing_where_none_are_wanted() -> None:
    off = "curriculum.fn_curriculum_start_epoch=null"
    tested = planner(off, "false_negatives.strategy=hybrid")
    clusters(tested)
    anchor, codes = TREE.positions(["111110"]), TREE.positions(["111140", "2122"])
    assert tested.keep(anchor, codes, state(3, off)).all()
    assert not tested.attract(anchor, codes, state(3, off)).any()
    assert tested.num_masked == 0
    tested.text_weights(ANCHORS, EXCLUDERS, state(3, off), CHANCE)
    assert set(tested.text_weights_without(ANCHORS, state(3, off))) == {"mining", "router"}


def test_mining_does_not_spend_itself_on_pairs_that_are_dropped() -> None:
    for strategy, wasted in (("eliminate", False), ("attract", True)):
        tested = planner(f"false_negatives.strategy={strategy}")
        before = tested.choose(batch(), state(3))
        nearest = before[0, :5]
        labels = np.full(len(TREE), -1)
        labels[[ANCHORS[0], *nearest]] = 2
        tested.clusters.assign(labels, epoch=1)
        after = tested.choose(batch(), state(3))
        assert np.isin(nearest, after[0, :10]).all() == wasted


def test_the_mask_belongs_to_the_codes_that_mining_chose() -> None:
    tested = planner("false_negatives.strategy=eliminate")
    chosen = tested.choose(batch(), state(3))
    labels = np.full(len(TREE), -1)
    labels[[ANCHORS[0], chosen[0, 2], chosen[0, 7]]] = 1
    tested.clusters.assign(labels, epoch=1)
    keep = tested.keep(ANCHORS[:1], chosen[0], state(3))[0]
    assert np.flatnonzero(~keep).tolist() == [2, 7]


CHANCE = np.array([0.3, 0.6])
EXCLUDERS = np.full(len(ANCHORS), -1)


@pytest.mark.parametrize(
    ("phase", "acting"),
    [
        (1, {"structure_weights"}),
        (2, {"mining", "router"}),
        (3, {"mining", "router", "false_negatives"}),
    ],
)
def test_each_mechanism_of_the_texts_can_be_left_out(phase: int, acting: set[str]) -> None:
    tested = planner("false_negatives.strategy=eliminate")
    clusters(tested)
    whole = tested.text_weights(ANCHORS, EXCLUDERS, state(phase), CHANCE)
    without = tested.text_weights_without(ANCHORS, state(phase))
    assert set(without) == acting
    for name, other in without.items():
        assert not np.array_equal(other, whole), name
    more = np.isfinite(without.get("false_negatives", without.get("structure_weights", whole)))
    fewer = np.isfinite(whole)
    assert (more >= fewer).all()
    assert (more > fewer).any() == (phase != 2)


def test_static_buckets_have_nothing_to_leave_out() -> None:
    option = "sampling.strategy=sans_static"
    tested = planner(option)
    for phase in (1, 3):
        tested.text_weights(ANCHORS, EXCLUDERS, state(phase, option), CHANCE)
        assert tested.text_weights_without(ANCHORS, state(phase, option)) == {}


def test_a_code_that_excludes_a_text_can_be_left_out() -> None:
    tested = planner()
    excluders = EXCLUDERS.copy()
    excluders[0] = TREE.position("212220")
    tested.text_weights(ANCHORS, excluders, state(1), CHANCE)
    without = tested.text_weights_without(ANCHORS, state(1))["cross_reference_negatives"]
    plain = tested.text_weights(ANCHORS, EXCLUDERS, state(1), CHANCE)
    np.testing.assert_array_equal(without, plain)
