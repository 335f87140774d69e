"""How sure an answer is at every level: probabilities of codes that are not the deepest."""

from collections.abc import Sequence

import numpy as np

from naics_job.export.onnx_encoder import Array

LEAF_LEVEL = 6
SURE = 0.5


class Levels:
    """The codes in the order of the tree, each before those below it.

    Args:
        levels: digits of each code `[code]`.
    """

    def __init__(self, levels: Array) -> None:
        self.levels = levels.astype(np.int64)
        self.leaves = np.flatnonzero(self.levels == LEAF_LEVEL)
        self.end = _ends(self.levels.tolist())  # [code], one past the last code below
        before = np.concatenate(([0], np.cumsum(self.levels == LEAF_LEVEL)))
        self.first_leaf, self.end_leaf = before[:-1], before[self.end]  # [code]

    def probabilities(self, leaves: Array) -> Array:
        """Of every code `[query, code]`: the sum of those of the six-digit codes below, or its own.

        Args:
            leaves: `[query, leaf]`.
        """
        total = np.zeros((len(leaves), leaves.shape[1] + 1))
        np.cumsum(leaves, axis=1, out=total[:, 1:])
        return (total[:, self.end_leaf] - total[:, self.first_leaf]).clip(0.0, 1.0)

    def path(self, probability: Array) -> list[int]:
        """The likeliest sector, the likeliest code in it, and so on down.

        Args:
            probability: of every code `[code]`.
        """
        found: list[int] = []
        first, end = 0, len(self.levels)
        for level in range(2, LEAF_LEVEL + 1):
            rows = first + np.flatnonzero(self.levels[first:end] == level)
            if not len(rows):
                break
            best = int(rows[probability[rows].argmax()])
            found.append(best)
            first, end = best, int(self.end[best])
        return found

    def sure(self, probability: Array) -> int | None:
        """The deepest code that is at least as likely as not, None where not even a sector is."""
        likely = [row for row in self.path(probability) if probability[row] >= SURE]
        return likely[-1] if likely else None


def sure_line(codes: Sequence[str], probability: Array, path: Sequence[int]) -> str:
    """How sure an answer is, in one line.

    A code as likely as the one below it on the path says nothing more and is left out.

    Args:
        codes: names `[code]`.
        probability: `[code]`.
        path: see `Levels.path`.
    """
    sure = [row for row in path if probability[row] >= SURE]
    parts = [_shown(codes, probability, part) for part in (sure, path[len(sure) :])]
    if not parts[0]:
        return f"not sure of a sector: {parts[1]}"
    return f"sure: {parts[0]}" + (f"; less sure: {parts[1]}" if parts[1] else "")


def _shown(codes: Sequence[str], probability: Array, path: Sequence[int]) -> str:
    shares = [f"{probability[row]:.2f}".removeprefix("0") for row in path]
    return ", ".join(
        f"{_named(codes[row])} {share}"
        for row, share, below in zip(path, shares, [*shares, ""][1:], strict=True)
        if share != below
    )


def _named(code: str) -> str:
    return f"sector {code}" if "-" in code or len(code) == 2 else code


def _ends(levels: Sequence[int]) -> Array:
    """One past the last code below each `[code]` int64."""
    end = np.full(len(levels), len(levels), dtype=np.int64)
    open_rows: list[int] = []
    for row, level in enumerate(levels):
        while open_rows and levels[open_rows[-1]] >= level:
            end[open_rows.pop()] = row
        open_rows.append(row)
    return end
