"""Every code that can be a negative of an anchor, numbered without listing them.

Seen from an anchor, codes that are neither its ancestors nor its descendants fall into groups
(depth j of the lowest common ancestor, depth L of the code): all codes of a group are equally far
from the anchor, depth + L - 2 j edges. Positions are in depth-first order, so the codes of depth L
below any code are one contiguous range of the list of codes of depth L, and a group is such a
range without an inner one. A *candidate number* counts through the groups of one anchor, from 0.
Counts and translations cost O(groups), 15 for NAICS, and the tables are linear in codes.
"""

from dataclasses import dataclass

import numpy as np

from naics_job.taxonomy.tree import BoolArray, IntArray, Taxonomy

NOBODY = -1  # no such code, no such candidate


@dataclass(frozen=True)
class Groups:
    """The candidate groups of some anchors; columns in a fixed order of (j, L).

    Attributes:
        first: `[batch, group]` rank, among allowed codes of depth L, of the outer range's first.
        gap: `[batch, group]` offset within the outer range at which the inner range begins.
        cut: `[batch, group]` length of the inner range.
        count: `[batch, group]` candidates in the group; 0 where it does not exist.
        start: `[batch, group]` candidate number of the group's first.
        distance: `[batch, group]` tree distance to the anchor.
    """

    first: IntArray
    gap: IntArray
    cut: IntArray
    count: IntArray
    start: IntArray
    distance: IntArray

    def rows(self, chosen: IntArray | BoolArray) -> "Groups":
        """The groups of some of the anchors."""
        return Groups(**{name: values[chosen] for name, values in vars(self).items()})


class CandidateIndex:
    """Translates between candidate numbers and positions, for codes that are `allowed` `[code]`."""

    def __init__(self, taxonomy: Taxonomy, allowed: BoolArray) -> None:
        self.taxonomy, self.allowed = taxonomy, allowed
        deepest = taxonomy.max_depth
        pairs = [(j, low) for j in range(deepest) for low in range(j + 1, deepest + 1)]
        self.shared_depth = np.array([j for j, _ in pairs])  # [group]
        self._depth = np.array([low for _, low in pairs])  # [group]
        self._group = np.full((deepest + 1, deepest + 1), NOBODY)
        self._group[self.shared_depth, self._depth] = np.arange(len(pairs))
        self._before = np.zeros((deepest + 1, len(taxonomy) + 1), dtype=np.int32)
        lists = [np.empty(0, dtype=np.int32)]
        for depth in range(1, deepest + 1):
            present = (taxonomy.depth == depth) & allowed
            lists.append(np.flatnonzero(present).astype(np.int32))
            np.cumsum(present, out=self._before[depth, 1:])
        self._by_depth = np.concatenate(lists)
        self._list_start = np.cumsum([0, *(len(part) for part in lists[:-1])])

    def groups(self, anchors: IntArray) -> Groups:
        """The groups of each anchor `[batch]`."""
        outer = self.taxonomy.ancestors[anchors][:, self.shared_depth]  # [batch, group]
        inner = self.taxonomy.ancestors[anchors][:, self.shared_depth + 1]
        exists = inner >= 0  # the paths part above the anchor's own depth
        low, high = self._ranks(outer)
        inner_low, inner_high = self._ranks(np.where(exists, inner, 0))
        cut = inner_high - inner_low
        count = np.where(exists, high - low - cut, 0)
        own = self.taxonomy.depth[anchors].astype(np.int64)[:, None]
        return Groups(
            first=low,
            gap=inner_low - low,
            cut=cut,
            count=count,
            start=np.cumsum(count, axis=1) - count,
            distance=own + self._depth - 2 * self.shared_depth,
        )

    def _ranks(self, tops: IntArray) -> tuple[IntArray, IntArray]:
        """Ranks `[batch, group]` of the first code of depth L below `tops`, and of the one after.

        A top of -1 is the virtual root, above every code.
        """
        size = len(self.taxonomy)
        begin = np.where(tops < 0, 0, tops)
        end = np.where(tops < 0, size, self.taxonomy.subtree_end[begin])
        return (
            self._before[self._depth, begin].astype(np.int64),
            self._before[self._depth, end].astype(np.int64),
        )

    def positions(self, groups: Groups, numbers: IntArray) -> IntArray:
        """Positions `[batch, any]` of candidate `numbers` `[batch, any]`; -1 stays -1."""
        column = (numbers[:, :, None] >= groups.start[:, None, :]) & (groups.count > 0)[:, None, :]
        last = groups.count.shape[1] - 1
        group = last - np.argmax(column[:, :, ::-1], axis=2)  # the last group begun: [batch, any]
        within = numbers - np.take_along_axis(groups.start, group, axis=1)
        gap, cut = (
            np.take_along_axis(values, group, axis=1) for values in (groups.gap, groups.cut)
        )
        rank = np.take_along_axis(groups.first, group, axis=1) + within + cut * (within >= gap)
        place = np.where(numbers >= 0, self._list_start[self._depth[group]] + rank, 0)
        found: IntArray = np.where(numbers >= 0, self._by_depth[place], NOBODY).astype(np.int64)
        return found

    def numbers(self, anchors: IntArray, groups: Groups, positions: IntArray) -> IntArray:
        """Candidate numbers `[batch, any]` of `positions`; -1 where a code is no candidate."""
        if not positions.size:
            return np.empty(positions.shape, dtype=np.int64)
        at = np.where(positions >= 0, positions, 0)
        path = self.taxonomy.ancestors[anchors][:, None, :]  # [batch, 1, depth + 1]
        shared = ((self.taxonomy.ancestors[at] == path) & (path >= 0)).sum(axis=2)
        depth = self.taxonomy.depth[at].astype(np.int64)  # [batch, any]
        group = self._group[shared, depth]
        lineal = (group == NOBODY) | (shared == self.taxonomy.depth[anchors][:, None])
        group = np.where(lineal, 0, group)
        first, gap, cut, start = (
            np.take_along_axis(values, group, axis=1)
            for values in (groups.first, groups.gap, groups.cut, groups.start)
        )
        offset = self._before[depth, at] - first
        number = start + offset - cut * (offset >= gap)
        usable = (positions >= 0) & self.allowed[at] & ~lineal
        found: IntArray = np.where(usable, number, NOBODY)
        return found
