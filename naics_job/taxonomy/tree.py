"""The tree of codes as arrays: parents, depths, ancestors, distances.

Nothing here is of size codes x codes: distances are computed for the block asked for, and every
subtree is a contiguous range of positions, so a taxonomy of a million codes fits in memory.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from naics_job.errors import DataError
from naics_job.taxonomy.codes import check_code, parent_of

IntArray = npt.NDArray[np.integer[Any]]
BoolArray = npt.NDArray[np.bool_]

NO_CODE = -1  # the virtual root above the sectors, and "no ancestor at this depth"


@dataclass(frozen=True, eq=False)
class Taxonomy:
    """Codes in depth-first pre-order with siblings sorted, and the tree over them.

    A position is an index into `codes`. Depth counts edges from a virtual root above the sectors,
    so that two six-digit codes of different sectors are 10 edges apart.

    Attributes:
        parent: `[code]` int32, -1 for sectors.
        depth: `[code]` int8, 1 for sectors to 5 for six digits.
        ancestors: `[code, max_depth + 1]` int32; column j is the ancestor at depth j. Column 0 and
            columns below the code's own depth are -1; the code itself stands at its own depth.
        subtree_end: `[code]` int32; the subtree of p is the range p .. subtree_end[p] - 1.
    """

    codes: tuple[str, ...]
    titles: tuple[str, ...]
    parent: IntArray
    depth: IntArray
    ancestors: IntArray
    subtree_end: IntArray

    @classmethod
    def from_codes(cls, codes: Sequence[str], titles: Sequence[str]) -> "Taxonomy":
        """Build the tree that the digits of NAICS codes spell, in any order of rows.

        Raises:
            DataError: a code is malformed, occurs twice, or its parent is missing.
        """
        row_of = _rows_by_code(codes)
        parent = np.full(len(codes), NO_CODE, dtype=np.int64)
        for row, code in enumerate(codes):
            above = parent_of(check_code(code))
            if above is None:
                continue
            if above not in row_of:
                raise DataError(
                    f"code {code} has no parent: {above} is missing from the code table",
                    f"add a row for {above}, or remove {code} and everything below it",
                )
            parent[row] = row_of[above]
        return cls.from_parents(codes, titles, parent)

    @classmethod
    def from_parents(
        cls, codes: Sequence[str], titles: Sequence[str], parent: IntArray
    ) -> "Taxonomy":
        """Build from `parent` `[code]`, the row of each code's parent or -1, in any order of rows.

        Raises:
            DataError: no codes, unequal lengths, a code twice, a parent out of range, or a cycle.
        """
        if not codes or not len(codes) == len(titles) == len(parent):
            lengths = (len(codes), len(titles), len(parent))
            raise DataError(
                f"a taxonomy needs as many titles and parents as codes, and at least one: {lengths}"
            )
        _rows_by_code(codes)
        depth = _depths(np.asarray(parent, dtype=np.int64))
        order, size = _pre_order(codes, np.asarray(parent, dtype=np.int64), depth)
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        moved = np.asarray(parent, dtype=np.int64)[order]  # [code], rows of the input
        new_parent = np.where(moved < 0, NO_CODE, rank[moved]).astype(np.int32)
        new_depth = depth[order]
        picks = order.tolist()
        return cls(
            codes=tuple(codes[row] for row in picks),
            titles=tuple(titles[row] for row in picks),
            parent=new_parent,
            depth=new_depth.astype(np.int8),
            ancestors=_ancestors(new_parent, new_depth),
            subtree_end=(np.arange(len(order)) + size[order]).astype(np.int32),
        )

    def __len__(self) -> int:
        return len(self.codes)

    @cached_property
    def _position_of(self) -> dict[str, int]:
        return {code: position for position, code in enumerate(self.codes)}

    @property
    def level(self) -> IntArray:
        """`[code]` int8, the number of digits: depth + 1."""
        return self.depth + np.int8(1)

    @property
    def max_depth(self) -> int:
        """Depth of the deepest code."""
        return int(self.ancestors.shape[1]) - 1

    def position(self, code: str) -> int:
        """The position of `code`.

        Raises:
            DataError: the code is not in this taxonomy.
        """
        try:
            return self._position_of[code]
        except KeyError:
            raise DataError(
                f"code {code!r} is not in the taxonomy of {len(self.codes)} codes",
                "merged sectors are written 31-33, 44-45 and 48-49; data.sectors and "
                "data.max_codes may have cut the code away",
            ) from None

    def positions(self, codes: Iterable[str]) -> IntArray:
        """Positions `[n]` int64 of `codes`; raises as `position` does."""
        return np.array([self.position(code) for code in codes], dtype=np.int64)

    def tree_distance(self, rows: IntArray, cols: IntArray) -> IntArray:
        """Edges `[rows, cols]` int16 on the path through the lowest common ancestor."""
        shared = np.zeros((len(rows), len(cols)), dtype=np.int16)  # depth of the common ancestor
        for column in range(1, self.max_depth + 1):
            left, right = self.ancestors[rows, column], self.ancestors[cols, column]
            shared += (left[:, None] == right[None, :]) & (left >= 0)[:, None]
        depth = self.depth.astype(np.int16)
        return depth[rows][:, None] + depth[cols][None, :] - 2 * shared  # [rows, cols]

    def pair_distance(self, a: IntArray, b: IntArray) -> IntArray:
        """Edges `[n]` int16 between `a` `[n]` and `b` `[n]`, element by element."""
        left, right = self.ancestors[a], self.ancestors[b]  # [n, max_depth + 1]
        shared: IntArray = ((left == right) & (left >= 0)).sum(axis=1, dtype=np.int16)
        depth = self.depth.astype(np.int16)
        return depth[a] + depth[b] - 2 * shared

    def is_lineal(self, rows: IntArray, cols: IntArray) -> BoolArray:
        """Whether one is the other's ancestor, or both are the same code: `[rows, cols]` bool."""
        row, col = np.asarray(rows)[:, None], np.asarray(cols)[None, :]
        below = (row <= col) & (col < self.subtree_end[row])
        above = (col <= row) & (row < self.subtree_end[col])
        lineal: BoolArray = below | above
        return lineal

    def six_digit(self) -> IntArray:
        """Positions `[n]` int64 of the codes of the deepest level (six digits in NAICS)."""
        return np.flatnonzero(self.depth == self.max_depth)


def _rows_by_code(codes: Sequence[str]) -> dict[str, int]:
    """Row of each code; DataError naming the first code that occurs twice."""
    row_of = {code: row for row, code in enumerate(codes)}
    if len(row_of) != len(codes):
        first = next(code for row, code in enumerate(codes) if row_of[code] != row)
        raise DataError(f"code {first} occurs twice in the code table", "keep one row per code")
    return row_of


def _depths(parent: IntArray) -> IntArray:
    """Depth `[code]` int64 of each row, 1 for roots; DataError on a cycle or a bad parent."""
    count = len(parent)
    if parent.min() < NO_CODE or parent.max() >= count:
        raise DataError(f"a parent row lies outside -1..{count - 1}")
    depth = np.zeros(count, dtype=np.int64)
    depth[parent < 0] = 1
    waiting = np.flatnonzero(depth == 0)
    while len(waiting):
        above = depth[parent[waiting]]
        known = above > 0
        if not known.any():
            raise DataError("the parents form a cycle: some codes never reach a sector")
        depth[waiting[known]] = above[known] + 1
        waiting = waiting[~known]
    return depth


def _pre_order(
    codes: Sequence[str], parent: IntArray, depth: IntArray
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows in depth-first pre-order with siblings sorted by code, and the subtree size per row."""
    count, deepest = len(codes), int(depth.max())
    size = np.ones(count, dtype=np.int64)
    for level in range(deepest, 1, -1):
        rows = np.flatnonzero(depth == level)
        size += np.bincount(parent[rows], weights=size[rows], minlength=count).astype(np.int64)
    by_code = np.argsort(np.array(codes), kind="stable")
    start = np.zeros(count, dtype=np.int64)  # position of each row in the pre-order
    for level in range(1, deepest + 1):
        rows = by_code[depth[by_code] == level]
        rows = rows[np.argsort(parent[rows], kind="stable")]  # families together, sorted by code
        above = parent[rows]
        before = np.cumsum(size[rows]) - size[rows]  # codes in front, over all families
        first = np.concatenate(([True], above[1:] != above[:-1]))
        family_start = before[first][np.cumsum(first) - 1]
        base = np.zeros(len(rows), dtype=np.int64) if level == 1 else start[above] + 1
        start[rows] = base + before - family_start
    order = np.empty(count, dtype=np.int64)
    order[start] = np.arange(count)
    return order, size


def _ancestors(parent: IntArray, depth: IntArray) -> npt.NDArray[np.int32]:
    """The table `[code, max_depth + 1]` described in `Taxonomy`; parents stand before children."""
    count, deepest = len(parent), int(depth.max())
    table = np.full((count, deepest + 1), NO_CODE, dtype=np.int32)
    for level in range(1, deepest + 1):
        rows = np.flatnonzero(depth == level)
        if level > 1:
            table[rows] = table[parent[rows]]
        table[rows, level] = rows
    return table
