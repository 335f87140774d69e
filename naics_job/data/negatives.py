"""Negatives drawn by tree distance, without looking at every code."""

import logging

import numpy as np

from naics_job.data.candidates import NOBODY, CandidateIndex
from naics_job.data.sampler import FloatArray, RowDraws
from naics_job.data.successive import compact, complete, independent, keep_new, repeat_to_fill
from naics_job.errors import ConfigError
from naics_job.taxonomy.tree import BoolArray, IntArray, Taxonomy

log = logging.getLogger(__name__)

BLOCK_ROWS = 65_536  # anchors whose candidates are counted at once


class TreeNegativeSampler:
    """Draws negatives; an anchor's lineal relatives, itself and codes not allowed never occur.

    A row holds no code twice. Its codes are drawn one after the other from what is left, each in
    proportion to its weight (successive sampling): exact for the first, and for each later one
    given those before it. As in any sampling without replacement, the share of rows that contain a
    very heavy code is therefore below k times its weight.

    Args:
        taxonomy: the tree.
        exclusions: offsets `[code + 1]` and positions of the codes each code names as excluded.
        allowed: `[code]` codes that may be negatives: all but the held-out ones.
    """

    def __init__(
        self, taxonomy: Taxonomy, exclusions: tuple[IntArray, IntArray], allowed: BoolArray
    ) -> None:
        self.taxonomy, self.allowed = taxonomy, allowed
        self.index = CandidateIndex(taxonomy, allowed)
        offsets, excluded = exclusions
        owner = np.repeat(np.arange(len(taxonomy)), np.diff(offsets))
        keep = allowed[excluded] & ~_lineal_pairs(taxonomy, owner, excluded)
        counts = np.bincount(owner[keep], minlength=len(taxonomy))
        self._offsets = np.concatenate([[0], np.cumsum(counts)])
        self._excluded = excluded[keep].astype(np.int64)
        self._most_excluded = int(counts.max(initial=0))

    def num_candidates(self, anchors: IntArray) -> IntArray:
        """Codes `[batch]` that can be a negative of each anchor at all."""
        parts = np.array_split(anchors, max(1, len(anchors) // BLOCK_ROWS))
        return np.concatenate([self.index.groups(part).count.sum(axis=1) for part in parts])

    def usable_anchors(self, anchors: IntArray, num_negatives: int) -> IntArray:
        """The anchors that have a candidate; the others cannot be anchors and are logged.

        Raises:
            ConfigError: no anchor has `num_negatives` candidates.
        """
        counts = self.num_candidates(anchors)
        most = int(counts.max(initial=0))
        if num_negatives > most:
            raise ConfigError(
                f"data_loader.num_negatives={num_negatives} is more than "
                f"{len(self.taxonomy)} codes can give: an anchor has at most {most} codes that are "
                "not its ancestors or descendants",
                f"set data_loader.num_negatives to {most} or below" if most else "keep more codes "
                "(data.sectors, data.max_codes)",
            )  # fmt: skip
        fields = {
            "num_negatives": num_negatives,
            "anchors_that_repeat_negatives": int(((counts > 0) & (counts < num_negatives)).sum()),
            "anchors_dropped": int((counts == 0).sum()),
        }
        if sum(fields.values()) > num_negatives:
            log.warning("sampler.few_candidates", extra={"fields": fields})
        return anchors[counts > 0]

    def draw(
        self,
        anchors: IntArray,
        k: int,
        alpha: float,
        sibling_threshold: int,
        exclusion_share: float,
        draws: RowDraws,
    ) -> IntArray:
        """Negatives `[batch, k]` int64 drawn with weight tree distance ** -alpha.

        Side relatives are never drawn: codes at a tree distance of at most `sibling_threshold` that
        share a real ancestor with the anchor (two sectors share only the virtual root: they are no
        relatives). `exclusion_share` of a row comes from the anchor's explicit exclusions, exactly
        so in the mean, as far as it has as many; they stand first. A row with fewer than `k`
        candidates repeats them. One with none at all because of the threshold ignores the
        threshold; `masked` still hides those codes from the loss.
        """
        nobody = np.empty((len(anchors), 0), dtype=np.int64)
        need = np.full(len(anchors), k)
        weight, taken = self.weight(anchors, alpha, sibling_threshold), nobody
        first = self.draw_exclusions(anchors, need, exclusion_share, sibling_threshold, draws)
        rest = self.draw_weighted(anchors, k, need - (first >= 0).sum(axis=1), weight, first, draws)
        drawn = compact(np.concatenate([first, rest], axis=1))[:, :k]
        empty = drawn[:, 0] == NOBODY
        if empty.any():
            spare = self.weight(anchors, alpha, 0)
            drawn[empty] = self.draw_weighted(anchors, k, need, spare, taken, draws)[empty]
        return repeat_to_fill(drawn)

    def draw_uniform(self, anchors: IntArray, k: int, draws: RowDraws) -> IntArray:
        """Negatives `[batch, k]` int64, every candidate equally likely."""
        return self.draw(anchors, k, 0.0, 0, 0.0, draws)

    def draw_buckets(
        self,
        anchors: IntArray,
        k: int,
        near_max_distance: int,
        near_share: float,
        draws: RowDraws,
    ) -> IntArray:
        """Negatives `[batch, k]` int64 from two buckets, uniform in each (SANS, arXiv:2009.11355).

        round(near_share * k) codes are within `near_max_distance` of the anchor, the others beyond
        it; a bucket that has too few codes leaves the rest of its share to the other.
        """
        groups = self.index.groups(anchors)
        near = groups.distance <= near_max_distance
        near_count = np.where(near, groups.count, 0).sum(axis=1)
        far_count = groups.count.sum(axis=1) - near_count
        num_far = np.minimum(k - np.minimum(round(near_share * k), near_count), far_count)
        num_near = np.minimum(k - num_far, near_count)
        nobody = np.empty((len(anchors), 0), dtype=np.int64)
        parts = [
            self.draw_weighted(anchors, k, num_near, near.astype(float), nobody, draws, "near"),
            self.draw_weighted(anchors, k, num_far, (~near).astype(float), nobody, draws, "far"),
        ]
        return repeat_to_fill(compact(np.concatenate(parts, axis=1))[:, :k])

    def weight(self, anchors: IntArray, alpha: float, sibling_threshold: int) -> FloatArray:
        """Weight `[batch, group]` of one code of each group, 0 for hidden side relatives."""
        distance = self.index.groups(anchors).distance
        relative = (self.index.shared_depth >= 1) & (distance <= sibling_threshold)
        weight: FloatArray = np.where(relative, 0.0, np.maximum(distance, 1.0) ** -alpha)
        return weight

    def draw_exclusions(
        self,
        anchors: IntArray,
        need: IntArray,
        share: float,
        sibling_threshold: int,
        draws: RowDraws,
        avoid: IntArray | None = None,
    ) -> IntArray:
        """`share` of `need` `[batch]` codes from each anchor's exclusions: `[batch, any]`, rest -1.

        The number is rounded up with the probability of its fraction. `avoid` `[batch, any]` and
        side relatives up to the threshold are left out.
        """
        if not self._most_excluded or share == 0:
            return np.empty((len(anchors), 0), dtype=np.int64)
        column = np.arange(self._most_excluded)
        first, after = self._offsets[anchors][:, None], self._offsets[anchors + 1][:, None]
        exists = first + column < after  # [batch, most]
        found = self._excluded[np.where(exists, first + column, 0)]
        rows = np.broadcast_to(anchors[:, None], found.shape)
        usable = exists & ~self._side_pairs(rows, found, sibling_threshold)
        if avoid is not None:
            usable &= ~(found[:, :, None] == avoid[:, None, :]).any(axis=2)
        random = draws.uniform("exclusions", self._most_excluded + 1)
        key = np.where(usable, random[:, 1:], np.inf)
        order = np.argsort(key, axis=1, kind="stable")
        wanted = np.floor(share * need + random[:, 0]).astype(np.int64)
        number = np.minimum(wanted, usable.sum(axis=1))[:, None]
        chosen: IntArray = np.where(column < number, np.take_along_axis(found, order, 1), NOBODY)
        return chosen

    def draw_weighted(
        self,
        anchors: IntArray,
        k: int,
        need: IntArray,
        weight: FloatArray,
        avoid: IntArray,
        draws: RowDraws,
        purpose: str = "negatives",
    ) -> IntArray:
        """Distinct negatives `[batch, k]` int64 by successive sampling, `need` `[batch]` per row.

        Rows end in -1 where `need`, or the number of candidates with weight, is below `k`.

        Args:
            anchors: `[batch]`.
            k: columns of the result; `need` is at most `k`.
            need: codes to draw per row.
            weight: `[batch, group]` weight of one code of each group of `CandidateIndex.groups`.
            avoid: `[batch, any]` positions that are not to be drawn; -1 is ignored.
            draws: the random numbers of these rows.
            purpose: draws of different purposes are independent.
        """
        groups = self.index.groups(anchors)
        taken = self.index.numbers(anchors, groups, avoid)
        numbers = independent(groups, weight, k + k // 2 + 8, draws, purpose)
        numbers = keep_new(numbers, taken, need, k)
        short = (numbers >= 0).sum(axis=1) < need
        if short.any():
            random = draws.uniform(f"{purpose}/rest", 2 * k)[short]
            numbers[short] = complete(
                groups.rows(short), weight[short], numbers[short], taken[short], need[short], random
            )
        return self.index.positions(groups, numbers)

    def masked(self, anchors: IntArray, codes: IntArray, sibling_threshold: int) -> BoolArray:
        """`[batch, code]`: True where a code must not be a negative of the anchor.

        Lineal relatives and the anchor itself, codes that are not allowed, and side relatives up
        to `sibling_threshold` (0: none).
        """
        hidden = self.taxonomy.is_lineal(anchors, codes) | ~self.allowed[codes][None, :]
        if sibling_threshold >= 2:
            near = self.taxonomy.tree_distance(anchors, codes) <= sibling_threshold
            sectors = self.taxonomy.ancestors[:, 1]
            hidden |= near & (sectors[anchors][:, None] == sectors[codes][None, :])
        return hidden

    def _side_pairs(self, a: IntArray, b: IntArray, sibling_threshold: int) -> BoolArray:
        """Whether pairs `a`, `b` of one shape are side relatives within the threshold."""
        near = self.taxonomy.pair_distance(a.ravel(), b.ravel()) <= sibling_threshold
        sectors = self.taxonomy.ancestors[:, 1]
        side: BoolArray = near.reshape(a.shape) & (sectors[a] == sectors[b])
        return side


def _lineal_pairs(taxonomy: Taxonomy, a: IntArray, b: IntArray) -> BoolArray:
    below = (a <= b) & (b < taxonomy.subtree_end[a])
    above = (b <= a) & (a < taxonomy.subtree_end[b])
    lineal: BoolArray = below | above
    return lineal
