"""Which codes are negatives of which anchor, phase by phase."""

from dataclasses import dataclass

import numpy as np

from naics_job.config.schema import Config
from naics_job.curriculum.false_negatives import ClusterState
from naics_job.curriculum.mining import Forbidden, MemoryBank, hardest, router_guided
from naics_job.curriculum.schedule import Phase, PhaseState
from naics_job.curriculum.wrong_answers import WrongAnswers
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

    Mining serves contrastive terms: the wrong answers of the texts, and the codes of a step where
    `loss.code_contrastive_weight` contrasts codes with codes. The terms that make the tree learn
    more from codes drawn from everywhere (docs/method.md), so without that term codes are drawn.

    Args:
        config: `curriculum`, `sampling`, `false_negatives`, `data_loader.num_negatives`, `seed`,
            `loss.curvature` and `loss.code_contrastive_weight` are read.
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
        self.contrasts_codes = config.loss.code_contrastive_weight > 0
        # codes [row] for which the newest step mined, and what [row, any], -1 where none
        self.mined: tuple[IntArray, IntArray] | None = None
        self.num_masked = 0  # pairs that the clusters took out of the newest step's negatives
        self.wrong: WrongAnswers | None = None  # of the texts of the newest step

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
        if not self.contrasts_codes or not shares.num_hard + shares.num_router:
            return self.sampler.draw(anchors, k, alpha, threshold, self.exclusion_share, draws)
        mined = np.concatenate(self._mine(anchors, shares, state), axis=1)
        self.mined = anchors, mined
        return self._fill(anchors, mined, state, draws)

    def _mine(
        self,
        anchors: IntArray,
        shares: Shares,
        state: PhaseState,
        same_level: bool = False,
    ) -> tuple[IntArray, IntArray]:
        """Hardest `[batch, hard]` and router-guided codes `[batch, router]`, disjoint; -1: none."""

        def forbidden(codes: IntArray) -> BoolArray:
            hidden = self.sampler.masked(anchors, codes, self._threshold(state))
            if same_level:
                hidden |= self._other_level(anchors, codes)
            return hidden | self._false(anchors, codes, state) if self._drops(state) else hidden

        near = hardest(self.bank, anchors, forbidden, shares.num_hard, self.curvature)
        alike = router_guided(self.bank, anchors, _without(forbidden, near), shares.num_router)
        return near, alike

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

    def text_weights(
        self, answers: IntArray, excluders: IntArray, state: PhaseState, chance: FloatArray
    ) -> FloatArray:
        """Log weight `[query, code]` of every code as a wrong answer of a text; -inf for none.

        Wrong answers are the codes of the answer's level that training knows. Phase 1 weighs them
        by tree distance and hides side relatives; from phase 2 on `num_negatives` mined ones share
        `hard_share` of the weight; phase 3 leaves out those in the answer's cluster, by strategy. A
        code that says a text is not its own is a wrong answer with the weight of a mined one.

        Args:
            answers: right codes `[query]`.
            excluders: codes known to be wrong `[query]`, -1 where none.
            state: where the curriculum stands.
            chance: two numbers in [0, 1), see `Shares.of`.
        """
        keep = self._wrong_codes(answers, self._threshold(state), state)
        weight = keep.astype(np.float64)
        if self._structural(state):
            codes = np.arange(len(self.bank.filled))
            edges = self.sampler.taxonomy.tree_distance(answers, codes)
            weight *= np.maximum(edges, 1).astype(np.float64) ** -state.tree_distance_alpha
        near, alike = np.zeros_like(keep), np.zeros_like(keep)
        shares = Shares.of(state, self.num_negatives, chance)
        if self.static is None and shares.num_hard + shares.num_router:
            mined = self._mine(answers, shares, state, same_level=True)
            near, alike = (_marked(part, keep) for part in mined)
            self.mined = answers, np.concatenate(mined, axis=1)
        named = np.zeros_like(weight)
        rows = np.flatnonzero((excluders >= 0) & self.sampler.allowed[excluders])
        named[rows, excluders[rows]] = 1 / self.num_negatives
        self.wrong = WrongAnswers(keep, weight, near, alike, named, state.hard_share)
        return self.wrong.log_weight()

    def text_weights_without(self, answers: IntArray, state: PhaseState) -> dict[str, FloatArray]:
        """By the name of each mechanism that acts now: the newest `text_weights` without it.

        Everything else stays, what was mined included.
        """
        wrong = self.wrong
        assert wrong is not None, "text_weights comes first"
        found = wrong.without_parts()
        if self._structural(state):
            found["structure_weights"] = wrong.over(self._wrong_codes(answers, 0, None))
        if self._drops(state) and self.static is None:
            found["false_negatives"] = wrong.over(self._wrong_codes(answers, 0, None))
        return {name: parts.log_weight() for name, parts in found.items()}

    def _wrong_codes(
        self, answers: IntArray, threshold: int, state: PhaseState | None
    ) -> BoolArray:
        """`[query, code]`: codes of the answer's level; with `state` less those of its cluster."""
        codes = np.arange(len(self.bank.filled))
        keep = ~self.sampler.masked(answers, codes, threshold)
        keep &= ~self._other_level(answers, codes) & self.bank.filled.cpu().numpy()
        if state is not None and self._drops(state):
            keep &= ~self._false(answers, codes, state)
        return keep

    def _other_level(self, anchors: IntArray, codes: IntArray) -> BoolArray:
        depth = self.sampler.taxonomy.depth
        other: BoolArray = depth[anchors][:, None] != depth[codes][None, :]
        return other

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

    def _structural(self, state: PhaseState) -> bool:
        return state.phase is Phase.STRUCTURAL and self.static is None

    def _threshold(self, state: PhaseState) -> int:
        return self.threshold if self._structural(state) else 0


def _is_static(config: Config) -> bool:
    return config.sampling.strategy == "sans_static"


def _marked(chosen: IntArray, keep: BoolArray) -> BoolArray:
    """Where `keep` `[row, code]` holds one of the codes `chosen` `[row, any]`, -1 where none."""
    marked = np.zeros_like(keep)
    rows, columns = np.nonzero(chosen != NOBODY)
    marked[rows, chosen[rows, columns]] = True
    return marked & keep


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
