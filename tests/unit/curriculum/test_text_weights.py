"""What each code weighs as a wrong answer of a text, phase by phase."""

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
from naics_job.data.sampler import FloatArray
from naics_job.geometry.lorentz import exp_map_origin, pairwise_distance
from naics_job.taxonomy.codes import bundled_titles
from naics_job.taxonomy.tree import IntArray, Taxonomy

ROWS = [row for row in bundled_titles() if row[0].startswith(("11", "21", "22", "55"))]
TREE = Taxonomy.from_codes(*zip(*ROWS, strict=True))
EVERYONE = np.arange(len(TREE))
HELDOUT = TREE.positions(["11112", "111120", "11221", "112210", "22121", "221210"])
ALLOWED = ~np.isin(EVERYONE, HELDOUT)
ANSWERS = TREE.positions(["111110", "112112", "212220", "221111", "1121"])
NOBODY = np.full(len(ANSWERS), -1)
K = 6
STEPS = {1: 0, 2: 50, 3: 90}  # a step in each phase of 100
CHANCE = np.zeros(2)


@functools.cache
def settings(overrides: tuple[str, ...]) -> Config:
    borders = ["curriculum.phase1_end=0.3", "curriculum.phase2_end=0.7"]
    shares = [f"curriculum.anneal.hard_share_{end}=0.5" for end in ("start", "end")]
    wanted = [f"data_loader.num_negatives={K}", *borders, *shares, *overrides]
    return load_config(None, "smoke", wanted).config


def planner(*overrides: str) -> NegativePlanner:
    bank = MemoryBank(ALLOWED, 6, 4)
    generator = torch.Generator().manual_seed(0)
    points = exp_map_origin(torch.randn(len(TREE), 6, generator=generator), 1.0)
    gates = torch.randn(len(TREE), 4, generator=generator).softmax(dim=1)
    bank.update(torch.arange(len(TREE)), points, gates)
    none = np.zeros(len(TREE) + 1, dtype=np.int64), np.empty(0, dtype=np.int64)
    sampler = TreeNegativeSampler(TREE, none, ALLOWED)
    return NegativePlanner(settings(overrides), sampler, bank, ClusterState(len(TREE)))


def state(phase: int, *overrides: str) -> PhaseState:
    config = settings(overrides)
    borders = Borders.planned(config.curriculum, 100, None)
    return Curriculum(config.curriculum, config.sampling, borders).at(STEPS[phase])


def weights(
    phase: int, *overrides: str, tested: NegativePlanner | None = None, who: IntArray = NOBODY
) -> FloatArray:
    found = (tested or planner(*overrides)).text_weights(
        ANSWERS, who, state(phase, *overrides), CHANCE
    )
    assert found.shape == (len(ANSWERS), len(TREE))
    return np.exp(found)


def same_level(answer: int) -> IntArray:
    """The codes that may be wrong answers: allowed, of the level, not the right one."""
    other = (TREE.depth == TREE.depth[answer]) & ALLOWED & (answer != EVERYONE)
    return np.flatnonzero(other)


@pytest.mark.parametrize("phase", [1, 2, 3])
@pytest.mark.parametrize("strategy", ["sadc", "sans_static"])
def test_wrong_answers_are_known_codes_of_the_answers_level(phase: int, strategy: str) -> None:
    option = f"sampling.strategy={strategy}"
    found = weights(phase, option, "curriculum.sibling_distance_threshold=0")
    for row, answer in enumerate(ANSWERS):
        np.testing.assert_array_equal(np.flatnonzero(found[row]), same_level(answer))
    assert not found[:, HELDOUT].any()


def test_codes_that_the_bank_has_not_seen_are_none() -> None:
    tested = planner()
    unseen = TREE.positions(["111140", "212210"])
    tested.bank.filled[torch.from_numpy(unseen)] = False
    assert not weights(2, tested=tested)[:, unseen].any()


@pytest.mark.parametrize("phase", [1, 2, 3])
def test_the_mean_weight_is_one(phase: int) -> None:
    for row in weights(phase):
        assert row[row > 0].mean() == pytest.approx(1)


def test_phase_1_weighs_by_tree_distance() -> None:
    options = ("curriculum.sibling_distance_threshold=0",)
    found, at = weights(1, *options), state(1, *options)
    assert at.tree_distance_alpha > 0
    for row, answer in enumerate(ANSWERS):
        codes = same_level(answer)
        edges = TREE.tree_distance(np.array([answer]), codes)[0].astype(float)
        expected = edges**-at.tree_distance_alpha
        np.testing.assert_allclose(found[row, codes], expected / expected.mean(), rtol=1e-6)


def test_side_relatives_are_hidden_in_phase_1_alone() -> None:
    option = "curriculum.sibling_distance_threshold=2"
    answer = TREE.position("221111")
    siblings = [c for c in same_level(answer) if TREE.parent[c] == TREE.parent[answer]]
    assert len(siblings) > 3
    row = ANSWERS.tolist().index(answer)
    assert not weights(1, option)[row, siblings].any()
    assert weights(2, option)[row, siblings].all()
    assert weights(1, "curriculum.sibling_distance_threshold=0")[row, siblings].all()


@pytest.mark.parametrize("phase", [2, 3])
def test_mined_codes_carry_the_hard_share(phase: int) -> None:
    option = "curriculum.router_mix_ratio=0.0"
    tested = planner(option)
    found = weights(phase, option, tested=tested)
    asked = state(phase, option)
    assert asked.hard_share == 0.5
    mined = Shares.of(asked, K, CHANCE).num_hard
    assert mined == 3
    points = tested.bank.points
    for row, answer in enumerate(ANSWERS):
        codes = same_level(answer)
        distance = pairwise_distance(points[[answer]], points[codes], 1.0)[0].numpy()
        nearest = codes[np.argsort(distance)[:mined]]
        rest = np.setdiff1d(codes, nearest)
        total = found[row].sum()
        plain = found[row, rest]
        np.testing.assert_allclose(plain, plain[0], rtol=1e-6)  # all others weigh alike
        extra = found[row, nearest] - plain[0]
        np.testing.assert_allclose(extra, 0.5 * total / mined, rtol=1e-6)
        assert plain[0] * len(codes) == pytest.approx(0.5 * total)


def test_mining_follows_the_router_too() -> None:
    option = "curriculum.router_mix_ratio=1.0"
    tested = planner(option)
    found = weights(2, option, tested=tested)
    gates = tested.bank.gates.double()
    for row, answer in enumerate(ANSWERS):
        codes = same_level(answer)
        own = gates[answer]
        divergence = (own * (own.log() - gates[codes].log())).sum(dim=1).numpy()
        alike = codes[np.argsort(divergence)[:3]]
        assert set(np.argsort(found[row])[-3:]) == set(alike)


def test_a_code_that_says_no_weighs_like_a_mined_one() -> None:
    option = "curriculum.router_mix_ratio=0.0"
    who = NOBODY.copy()
    who[0], who[2], who[3] = TREE.positions(["55", "111140", "111120"])
    before, after = weights(2, option), weights(2, option, who=who)
    changed = np.argwhere(~np.isclose(before, after)).tolist()
    # of any level, but not a held-out one
    assert sorted(changed) == sorted([[0, int(who[0])], [2, int(who[2])]])
    share = {row: len(same_level(ANSWERS[row])) / K for row in (0, 2)}
    for row in (0, 2):
        assert (after - before)[row, who[row]] == pytest.approx(share[row])
    mined = np.sort(before[2])[-3:] - np.median(before[2][before[2] > 0])
    np.testing.assert_allclose(mined, share[2], rtol=1e-6)


@pytest.mark.parametrize(
    ("strategy", "drops"), [("eliminate", True), ("attract", False), ("hybrid", True)]
)
def test_codes_of_the_answers_cluster_are_left_out_in_phase_3(strategy: str, drops: bool) -> None:
    option = f"false_negatives.strategy={strategy}"
    tested = planner(option)
    labels = np.full(len(TREE), -1)
    alike = TREE.positions(["111140", "212210"])
    labels[[ANSWERS[0], *alike]] = 3
    tested.clusters.assign(labels, epoch=1)
    early, late = weights(2, option, tested=tested), weights(3, option, tested=tested)
    assert early[0, alike].all()
    assert late[0, alike].any() != drops
    assert late[1, alike].all()  # of another cluster


def test_static_buckets_weigh_all_alike_in_every_phase() -> None:
    option = "sampling.strategy=sans_static"
    asked = [state(phase, option) for phase in (1, 3)]
    found = [np.exp(planner(option).text_weights(ANSWERS, NOBODY, at, CHANCE)) for at in asked]
    for row in range(len(ANSWERS)):
        kept = found[0][row] > 0
        assert np.ptp(found[0][row, kept]) < 1e-9
        np.testing.assert_allclose(found[0][row] > 0, found[1][row] > 0)
    np.testing.assert_allclose(found[0], found[1])


def test_where_nothing_is_mined_the_others_carry_all() -> None:
    """An answer that the memory does not hold, or a share that rounds to no code."""
    tested = planner()
    tested.bank.filled[ANSWERS[1]] = False
    found = weights(2, tested=tested)
    assert np.ptp(found[1][found[1] > 0]) < 1e-9
    assert found[1][found[1] > 0].mean() == pytest.approx(1)
    assert np.ptp(found[0][found[0] > 0]) > 1
    options = [f"curriculum.anneal.hard_share_{end}=0.1" for end in ("start", "end")]
    none = weights(2, *options)  # 0.6 of a code, rounded down by this chance
    np.testing.assert_allclose(none[none > 0], 1.0)


def test_a_text_without_wrong_answers_has_none() -> None:
    tested = planner()
    tested.bank.filled[:] = False
    tested.bank.filled[ANSWERS[0]] = True
    found = tested.text_weights(ANSWERS, NOBODY, state(2), CHANCE)
    assert np.isneginf(found[0]).all()
    assert not np.isnan(found).any()
