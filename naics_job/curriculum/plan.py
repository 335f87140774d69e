"""Which codes are negatives of which anchor, phase by phase."""

from dataclasses import dataclass

import numpy as np

from naics_job.config.schema import Config
from naics_job.curriculum.false_negatives import ClusterState
from naics_job.curriculum.mining import Forbidden, MemoryBank, hardest, router_guided
from naics_job.curriculum.schedule import Phase, PhaseState
from naics_job.data.candidates import NOBODY
from naics_job.data.negatives import TreeNegativeSampler
from naics_job.data.sampler import AnchorBatch, FloatArray, RowDraws, step_rng
from naics_job.data.successive import compact, repeat_to_fill
from naics_job.taxonomy.tree import BoolArray, IntArray

DROPS = ("eliminate", "hybrid")
PULLS = ("attract", "hybrid")


@dataclass(frozen=True)
class Shares:
    """How many negatives of a row come from where; they add up to `num_negatives`."""

    num_hard: int
    num_router: int
    num_drawn: int

    @classmethod
    def of(cls, state: PhaseState, num_negatives: int, chance: FloatArray) -> "Shares":
        """`hard_share` of all is mined, `router_mix_ratio` of that by the router.

        Numbers between two whole ones become the one or the other with the probability that makes
        the share right in the mean: with few negatives, rounding would leave one kind out for good.

        Args:
            state: where the curriculum stands.
            num_negatives: of each row.
            chance: two numbers in [0, 1).
        """
        mined = int(state.hard_share * num_negatives + chance[0])
        router = int(state.router_mix_ratio * mined + chance[1])
        return cls(mined - router, router, num_negatives - mined)


class NegativePlanner:
    """Chooses negatives before a step is encoded, and masks pairs after.

    What `false_negatives.strategy` does in phase 3 with a pair of one cluster that could be a
    negative: `eliminate` takes it out of the negatives, `attract` leaves it there but also pulls it
    together with `attract_weight`, `hybrid` takes it out and pulls it together.

    With `sampling.strategy=sans_static` negatives come from two fixed buckets in every phase, and
    neither side relatives nor clusters are masked: the baseline without a curriculum.

    Args:
        config: `curriculum`, `sampling`, `false_negatives`, `data_loader.num_negatives`, `seed`
            and `loss.curvature` are read.
        sampler: draws by tree distance; knows the allowed codes.
        bank: what mining looks at.
        clusters: labels of phase 3.
    """

    def __init__(
        self,
        config: Config,
        sampler: TreeNegativeSampler,
        bank: MemoryBank,
        clusters: ClusterState,
    ) -> None:
        self.sampler, self.bank, self.clusters = sampler, bank, clusters
        self.seed, self.num_negatives = config.seed, config.data_loader.num_negatives
        self.curvature = config.loss.curvature  # set anew by training where it is learned
        self.threshold = config.curriculum.sibling_distance_threshold
        self.exclusion_share = config.curriculum.exclusion_share
        self.strategy = config.false_negatives.strategy
        self.static = config.sampling.sans_static if _is_static(config) else None
        # anchors [batch] of the newest step and what was mined [batch, any], -1 where none
        self.mined: tuple[IntArray, IntArray] | None = None
        self.num_masked = 0  # pairs that the clusters took out of the newest step's negatives

    def choose(self, batch: AnchorBatch, state: PhaseState) -> IntArray:
        """Negatives `[batch, num_negatives]` int64, mined first, then exclusions, then drawn.

        No row holds a code twice while its anchor has enough candidates. The anchor, its ancestors
        and descendants and held-out codes never occur. What the memory cannot give (it has not seen
        the anchor, or too few codes) is drawn instead.
        """
        k, draws, anchors = self.num_negatives, batch.draws(self.seed), batch.anchors
        self.mined = None
        if self.static is not None:
            near = self.static.near_max_distance
            return self.sampler.draw_buckets(anchors, k, near, self.static.near_share, draws)
        alpha, threshold = state.tree_distance_alpha, self._threshold(state)
        chance = step_rng(self.seed, batch.epoch, batch.index, "shares").random(2)
        shares = Shares.of(state, k, chance)
        if not shares.num_hard + shares.num_router:
            return self.sampler.draw(anchors, k, alpha, threshold, self.exclusion_share, draws)
        mined = self._mine(anchors, shares, state)
        self.mined = anchors, mined
        return self._fill(anchors, mined, state, draws)

    def _mine(self, anchors: IntArray, shares: Shares, state: PhaseState) -> IntArray:
        """Hardest and router-guided codes, disjoint: `[batch, hard + router]`, -1 where none."""

        def forbidden(codes: IntArray) -> BoolArray:
            hidden = self.sampler.masked(anchors, codes, self._threshold(state))
            return hidden | self._false(anchors, codes, state) if self._drops(state) else hidden

        near = hardest(self.bank, anchors, forbidden, shares.num_hard, self.curvature)
        alike = router_guided(self.bank, anchors, _without(forbidden, near), shares.num_router)
        return np.concatenate([near, alike], axis=1)

    def _fill(
        self, anchors: IntArray, mined: IntArray, state: PhaseState, draws: RowDraws
    ) -> IntArray:
        """`mined` rows filled up to `num_negatives` with exclusions and drawn codes."""
        k, threshold = self.num_negatives, self._threshold(state)
        need = k - (mined >= 0).sum(axis=1)
        excluded = self.sampler.draw_exclusions(
            anchors, need, self.exclusion_share, threshold, draws, mined
        )
        chosen = np.concatenate([mined, excluded], axis=1)
        weight = self.sampler.weight(anchors, state.tree_distance_alpha, threshold)
        left = need - (excluded >= 0).sum(axis=1)
        drawn = self.sampler.draw_weighted(anchors, k, left, weight, chosen, draws)
        return repeat_to_fill(compact(np.concatenate([chosen, drawn], axis=1))[:, :k])

    def keep(self, anchors: IntArray, codes: IntArray, state: PhaseState) -> BoolArray:
        """`[batch, code]`: which encoded `codes` are negatives of which anchor.

        Every code of the step is one, except the anchor, its lineal relatives and codes that are
        not allowed; in phase 1 side relatives up to `sibling_distance_threshold`; in phase 3, by
        strategy, codes of the anchor's cluster. The anchor's own positive is up to the caller.
        Works on the codes that were encoded, hence on what mining chose, in the same order.
        """
        keep = ~self.sampler.masked(anchors, codes, self._threshold(state))
        false = keep & self._false(anchors, codes, state)
        if not self._drops(state):
            self.num_masked = 0
            return keep
        self.num_masked = int(false.sum())
        return keep & ~false

    def attract(self, anchors: IntArray, codes: IntArray, state: PhaseState) -> BoolArray:
        """`[batch, code]`: which pairs are pulled together as suspected false negatives."""
        if self.strategy not in PULLS:
            return np.zeros((len(anchors), len(codes)), dtype=bool)
        candidates = ~self.sampler.masked(anchors, codes, 0)
        return candidates & self._false(anchors, codes, state)

    def _false(self, anchors: IntArray, codes: IntArray, state: PhaseState) -> BoolArray:
        if not state.mitigation or self.static is not None:
            return np.zeros((len(anchors), len(codes)), dtype=bool)
        return self.clusters.same(anchors, codes)

    def _drops(self, state: PhaseState) -> bool:
        return self.strategy in DROPS and state.mitigation

    def _threshold(self, state: PhaseState) -> int:
        structural = state.phase is Phase.STRUCTURAL and self.static is None
        return self.threshold if structural else 0


def _is_static(config: Config) -> bool:
    return config.sampling.strategy == "sans_static"


def _without(forbidden: Forbidden, chosen: IntArray) -> Forbidden:
    """`forbidden`, and in each row also the codes `chosen` `[batch, any]` there."""

    def wider(codes: IntArray) -> BoolArray:
        hidden = forbidden(codes)
        column = chosen - codes[0]  # blocks are contiguous
        inside = (chosen != NOBODY) & (column >= 0) & (column < len(codes))
        rows, places = np.nonzero(inside)
        hidden[rows, column[rows, places]] = True
        return hidden

    return wider
