"""The picture in the disk: radii are kept, neighbours stand together, edges are geodesics."""

import numpy as np
import pytest
import torch
from torch import Tensor

from naics_job.evaluation.disk import ARC_POINTS, EDGE_RADIUS, disk_layout, disk_radius, edge_arcs
from naics_job.geometry.lorentz import exp_map_origin, geodesic_distance
from naics_job.taxonomy.codes import bundled_titles, sector_of
from naics_job.taxonomy.tree import Taxonomy

ROWS = [(code, title) for code, title in bundled_titles() if code[:2] in ("21", "22", "55", "61")]
TREE = Taxonomy.from_codes(*zip(*ROWS, strict=True))


def tree_vectors(dim: int = 400) -> Tensor:
    """Each code adds its own direction to its parent's vector."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.nn.functional.normalize(torch.randn(len(TREE), dim, generator=generator), dim=1)
    vectors = torch.zeros(len(TREE), dim)
    for position in range(len(TREE)):
        above = int(TREE.parent[position])
        vectors[position] = steps[position] + (vectors[above] if above >= 0 else 0)
    return vectors


def test_the_centre_distance_is_the_scaled_radius() -> None:
    vectors = tree_vectors()
    layout = disk_layout(exp_map_origin(vectors, 1.0), TREE, 1.0)
    np.testing.assert_allclose(layout.radius, vectors.norm(dim=1), rtol=1e-4)
    drawn = np.hypot(*layout.xy.T)
    expected = np.tanh(layout.scale * layout.radius / 2)
    np.testing.assert_allclose(drawn, expected, rtol=1e-6)
    assert drawn.max() == pytest.approx(np.tanh(EDGE_RADIUS / 2), rel=1e-6)
    assert disk_radius(layout.scale * layout.radius[7]) == pytest.approx(drawn[7], rel=1e-6)


def test_the_scale_takes_out_the_curvature() -> None:
    flat = disk_layout(exp_map_origin(tree_vectors(), 1.0), TREE, 1.0)
    curved = disk_layout(exp_map_origin(tree_vectors(), 0.25), TREE, 0.25)
    np.testing.assert_allclose(np.hypot(*curved.xy.T), np.hypot(*flat.xy.T), rtol=1e-4)


def test_sectors_stand_together_and_parents_in_their_middle() -> None:
    layout = disk_layout(exp_map_origin(2 * tree_vectors(), 1.0), TREE, 1.0)
    leaves = TREE.six_digit()
    around = leaves[np.argsort(layout.angle[leaves])]
    sectors = [sector_of(TREE.codes[position]) for position in around]
    changes = sum(a != b for a, b in zip(sectors, sectors[1:] + sectors[:1], strict=True))
    assert changes == 4  # one arc for each of the four sectors
    top = TREE.position("21")
    below = leaves[(leaves > top) & (leaves < TREE.subtree_end[top])]
    middle = np.angle(np.exp(1j * layout.angle[below]).sum())
    assert np.angle(np.exp(1j * (layout.angle[top] - middle))) == pytest.approx(0, abs=1e-6)


def test_a_code_put_elsewhere_is_drawn_elsewhere() -> None:
    """The tree must not hide a mistake: a leaf of 22 with the vector of a leaf of 61."""
    vectors = 2 * tree_vectors()
    lost, place = TREE.position("221310"), TREE.position("611110")
    vectors[lost] = vectors[place] * 1.01
    layout = disk_layout(exp_map_origin(vectors, 1.0), TREE, 1.0)
    step = 2 * np.pi / len(TREE.six_digit())
    gap = np.angle(np.exp(1j * (layout.angle[lost] - layout.angle[place])))
    assert abs(gap) == pytest.approx(step, rel=1e-6)


def test_edges_are_geodesics_between_parent_and_child() -> None:
    layout = disk_layout(exp_map_origin(tree_vectors(), 1.0), TREE, 1.0)
    arcs, child = edge_arcs(layout, TREE)
    assert arcs.shape == (len(TREE) - 4, ARC_POINTS, 2)
    np.testing.assert_allclose(arcs[:, -1], layout.xy[child], atol=1e-9)
    np.testing.assert_allclose(arcs[:, 0], layout.xy[TREE.parent[child]], atol=1e-9)
    point = torch.from_numpy(arcs[0])
    squares = point.square().sum(1, keepdim=True)  # back to the hyperboloid
    lifted = torch.cat([1 + squares, 2 * point], dim=1) / (1 - squares)
    steps = geodesic_distance(lifted[1:], lifted[:-1], 1.0).sum()
    whole = geodesic_distance(lifted[:1], lifted[-1:], 1.0)[0]
    assert float(steps) == pytest.approx(float(whole), rel=1e-6)


def test_a_taxonomy_of_one_code() -> None:
    one = Taxonomy.from_codes(["11"], ["Farming"])
    layout = disk_layout(exp_map_origin(torch.ones(1, 4), 1.0), one, 1.0)
    assert layout.xy.shape == (1, 2)
    assert len(edge_arcs(layout, one)[0]) == 0
