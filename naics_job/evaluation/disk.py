"""A picture of a hyperbolic embedding in the plane, made from the embedding alone."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from torch import Tensor

from naics_job.evaluation.distances import FloatArray, LorentzDistances
from naics_job.geometry.lorentz import centroid_of_sum, exp_map_origin, radius, to_poincare
from naics_job.taxonomy.tree import IntArray, Taxonomy

FLAT = 1.0  # curvature of the hyperbolic plane that is drawn
EDGE_RADIUS = 3.6  # where the outermost codes are drawn: at 95 % of the disk
ARC_POINTS = 24


@dataclass(frozen=True)
class DiskLayout:
    """Places in the open unit disk."""

    xy: FloatArray  # [code, 2]
    angle: FloatArray  # [code] radians
    scale: float  # a distance r from the origin is drawn at `disk_radius(scale * r)`
    radius: FloatArray  # [code] distance from the origin in the embedding
    points: Tensor  # [code, 3] the same places on the hyperboloid


def disk_layout(points: Tensor, taxonomy: Taxonomy, curvature: float) -> DiskLayout:
    """Place the codes of `points` `[code, dim + 1]` in the Poincare disk.

    The distance from the centre is the distance from the origin of the embedding, times one factor
    that makes the outermost code just fit. Angles cannot be kept, as hundreds of dimensions do not
    go into two, so they show neighbourhoods: the codes of the deepest level stand around the circle
    in the order of an average-linkage clustering of their geodesic distances. A code further up
    stands in the middle (circular mean) of as many of these as it has below it in the tree, those
    nearest to it in the embedding. The tree itself moves nothing: an edge across the disk is a code
    that the embedding has put far from its parent.
    """
    distances = LorentzDistances(points, curvature)
    leaves = taxonomy.six_digit()
    angle = np.zeros(len(taxonomy))
    angle[leaves] = _leaf_angles(distances, leaves)
    above = np.setdiff1d(np.arange(len(taxonomy)), leaves)
    if len(above):
        distance = distances.block(above)[:, leaves]  # [above, leaf]
        angle[above] = _middle_angles(distance, angle[leaves], _leaves_below(taxonomy, above))
    lengths = radius(points, curvature).double().numpy()  # [code]
    scale = EDGE_RADIUS / max(float(lengths.max()), 1e-9)
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    tangent = torch.from_numpy(direction * (scale * lengths)[:, None])
    flat = exp_map_origin(tangent, FLAT)  # [code, 3]
    return DiskLayout(to_poincare(flat, FLAT).numpy(), angle, scale, lengths, flat)


def disk_radius(length: float) -> float:
    """Distance from the centre of the disk of a point at `length` from the origin."""
    tangent = torch.tensor([[length, 0.0]], dtype=torch.float64)
    return float(to_poincare(exp_map_origin(tangent, FLAT), FLAT)[0, 0])


def edge_arcs(layout: DiskLayout, taxonomy: Taxonomy) -> tuple[FloatArray, IntArray]:
    """Geodesics from parents to children, `[edge, ARC_POINTS, 2]`, and each edge's child.

    The Lorentz centroids of two points with weights 1 - t and t run along the geodesic.
    """
    child = np.flatnonzero(taxonomy.parent >= 0)
    end, start = layout.points[child], layout.points[taxonomy.parent[child].astype(np.int64)]
    t = torch.linspace(0, 1, ARC_POINTS, dtype=start.dtype)[None, :, None]
    arcs = centroid_of_sum((1 - t) * start[:, None] + t * end[:, None], FLAT)
    return to_poincare(arcs, FLAT).numpy(), child


def _leaf_angles(distances: LorentzDistances, leaves: IntArray) -> FloatArray:
    """Angle of each leaf by its place in the order of the clustering."""
    count = len(leaves)
    if count < 3:
        return 2 * np.pi * np.arange(count) / max(1, count)
    square = distances.block(leaves)[:, leaves].astype(np.float64)
    square = (square + square.T) / 2
    np.fill_diagonal(square, 0)
    order = leaves_list(linkage(squareform(square, checks=False), method="average"))
    place = np.empty(count)
    place[order] = np.arange(count)
    angles: FloatArray = 2 * np.pi * place / count
    return angles


def _middle_angles(distance: FloatArray, angles: FloatArray, counts: IntArray) -> FloatArray:
    """Circular mean `[row]` of the angles of the `counts` `[row]` nearest leaves of each row."""
    order = np.argsort(distance, axis=1, kind="stable")
    near = np.arange(distance.shape[1]) < counts[:, None]  # [row, leaf] in order of distance
    direction = np.exp(1j * angles)[order]
    middle: FloatArray = np.angle((direction * near).sum(axis=1))
    return middle


def _leaves_below(taxonomy: Taxonomy, rows: IntArray) -> IntArray:
    """Leaves below each of `rows`, at least 1."""
    before = np.concatenate([[0], np.cumsum(taxonomy.depth == taxonomy.max_depth)])
    below: IntArray = np.maximum(1, before[taxonomy.subtree_end[rows]] - before[rows])
    return below
