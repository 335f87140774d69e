"""Which codes have a wrong nearest parent, and which one it is."""

from dataclasses import dataclass

import numpy as np

from naics_job.evaluation.distances import Distances
from naics_job.taxonomy.tree import BoolArray, IntArray, Taxonomy

BLOCK_ROWS = 256


@dataclass(frozen=True)
class NearestParents:
    """The nearest code one level up of each code that has a parent."""

    codes: IntArray  # [row] positions, ascending
    nearest: IntArray  # [row] positions; the parent itself where it is among the nearest
    excess: np.ndarray  # [row] distance to the parent minus distance to the nearest, 0 when right

    def wrong(self, taxonomy: Taxonomy) -> BoolArray:
        """`[row]`: the nearest is not the parent."""
        mistaken: BoolArray = self.nearest != taxonomy.parent[self.codes]
        return mistaken

    def misplaced_by(self, taxonomy: Taxonomy) -> IntArray:
        """Tree distance `[row]` between the nearest and the parent, 0 when right."""
        return taxonomy.pair_distance(self.nearest, taxonomy.parent[self.codes])


def nearest_parents(distances: Distances, taxonomy: Taxonomy) -> NearestParents:
    """Look for the nearest code one level up of every code but the sectors."""
    codes = np.flatnonzero(taxonomy.parent >= 0)
    nearest = np.empty(len(codes), dtype=np.int64)
    excess = np.empty(len(codes))
    for depth in range(2, taxonomy.max_depth + 1):
        rows = np.flatnonzero(taxonomy.depth[codes] == depth)
        above = np.flatnonzero(taxonomy.depth == depth - 1)
        for start in range(0, len(rows), BLOCK_ROWS):
            block = rows[start : start + BLOCK_ROWS]
            distance = distances.block(codes[block])[:, above]  # [row, above]
            parent = np.searchsorted(above, taxonomy.parent[codes[block]])
            at = np.arange(len(block))
            own = distance[at, parent]
            closest = distance.argmin(axis=1)
            closest = np.where(own <= distance[at, closest], parent, closest)
            nearest[block] = above[closest]
            excess[block] = own - distance[at, closest]
    return NearestParents(codes, nearest, excess)
