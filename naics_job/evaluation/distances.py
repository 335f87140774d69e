"""Where distances between codes come from, so that every metric serves every embedding.

Blocks of rows keep the memory at `[rows, code]`. Values are rounded to float32: codes with the same
text have the same embedding, and the rounding makes their distances ties, not noise.
"""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from naics_job.geometry.lorentz import geodesic_distance, pairwise_distance
from naics_job.taxonomy.tree import IntArray

FloatArray = npt.NDArray[np.floating[Any]]

PAIR_BLOCK = 16_384  # pairs whose points are gathered at a time


class Distances(Protocol):
    """Distances between the codes of a taxonomy, by position."""

    @property
    def num_codes(self) -> int:
        """Codes there are."""

    def block(self, rows: IntArray) -> FloatArray:
        """Distances `[rows, code]` float32 of some codes to all codes."""

    def pairs(self, a: IntArray, b: IntArray) -> FloatArray:
        """Distances `[n]` float32 between `a` `[n]` and `b` `[n]`, element by element."""


class LorentzDistances:
    """Geodesic distances between points `[code, dim + 1]`."""

    def __init__(self, points: Tensor, curvature: float) -> None:
        self.points = points.detach().cpu()
        self.curvature = curvature

    @property
    def num_codes(self) -> int:
        """Codes there are."""
        return self.points.shape[0]

    def block(self, rows: IntArray) -> FloatArray:
        """Distances `[rows, code]` float32."""
        chosen = self.points[torch.from_numpy(np.asarray(rows, dtype=np.int64))]
        return _rounded(pairwise_distance(chosen, self.points, self.curvature))

    def pairs(self, a: IntArray, b: IntArray) -> FloatArray:
        """Distances `[n]` float32."""
        parts = []
        for start in range(0, len(a), PAIR_BLOCK):
            left, right = (self.points[part[start : start + PAIR_BLOCK]] for part in (a, b))
            parts.append(_rounded(geodesic_distance(left, right, self.curvature)))
        return np.concatenate(parts)


class CosineDistances:
    """1 - cosine between vectors `[code, dim]`; a zero vector stands at 1 from every other."""

    def __init__(self, vectors: Tensor) -> None:
        self.vectors = vectors.detach().cpu().double()
        self.directions = torch.nn.functional.normalize(self.vectors, dim=1)

    @property
    def num_codes(self) -> int:
        """Codes there are."""
        return self.directions.shape[0]

    def block(self, rows: IntArray) -> FloatArray:
        """Distances `[rows, code]` float32."""
        chosen = self.directions[torch.from_numpy(np.asarray(rows, dtype=np.int64))]
        return _rounded(1 - chosen @ self.directions.T)

    def pairs(self, a: IntArray, b: IntArray) -> FloatArray:
        """Distances `[n]` float32."""
        parts = []
        for start in range(0, len(a), PAIR_BLOCK):
            left, right = (self.directions[part[start : start + PAIR_BLOCK]] for part in (a, b))
            parts.append(_rounded(1 - (left * right).sum(1)))
        return np.concatenate(parts)


class MatrixDistances:
    """Distances read from a matrix `[code, code]`."""

    def __init__(self, matrix: FloatArray) -> None:
        self.matrix = np.asarray(matrix, dtype=np.float32)

    @property
    def num_codes(self) -> int:
        """Codes there are."""
        return int(self.matrix.shape[0])

    def block(self, rows: IntArray) -> FloatArray:
        """Distances `[rows, code]` float32."""
        chosen: FloatArray = self.matrix[rows]
        return chosen

    def pairs(self, a: IntArray, b: IntArray) -> FloatArray:
        """Distances `[n]` float32."""
        chosen: FloatArray = self.matrix[a, b]
        return chosen


def _rounded(distance: Tensor) -> FloatArray:
    values: FloatArray = distance.to(torch.float32).numpy()
    return values
