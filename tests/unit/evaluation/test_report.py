"""The evaluation as a whole: perfect, collapsed, broken and held-out."""

import numpy as np
import pytest
import torch
from torch import Tensor

from naics_job.errors import DataError
from naics_job.evaluation import report as report_module
from naics_job.evaluation.distances import CosineDistances, LorentzDistances, MatrixDistances
from naics_job.evaluation.report import evaluate, evaluate_distances
from naics_job.geometry.lorentz import exp_map_origin, geodesic_distance
from naics_job.taxonomy.codes import bundled_titles
from naics_job.taxonomy.tree import Taxonomy

KEYS = {"cophenetic", "spearman", "distortion", "ndcg@5", "ndcg@10", "ndcg@20", "map", "parent@1"}


def small_tree() -> Taxonomy:
    rows = [(code, title) for code, title in bundled_titles() if code[:2] in ("11", "21", "22")]
    return Taxonomy.from_codes(*zip(*rows, strict=True))


TREE = small_tree()
HELDOUT = TREE.six_digit()[::10]


def tree_points(dim: int = 300, length: float = 1.5) -> Tensor:
    """Each code adds its own direction to its parent's vector: a good embedding of the tree."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.nn.functional.normalize(torch.randn(len(TREE), dim, generator=generator), dim=1)
    vectors = torch.zeros(len(TREE), dim)
    for position in range(len(TREE)):
        above = int(TREE.parent[position])
        base = vectors[above] if above >= 0 else torch.zeros(dim)
        vectors[position] = base + length * steps[position]
    return exp_map_origin(vectors, 1.0)


def test_a_perfect_embedding_scores_one_on_everything() -> None:
    everyone = np.arange(len(TREE))
    matrix = MatrixDistances(2.5 * TREE.tree_distance(everyone, everyone))
    report = evaluate_distances(matrix, TREE, HELDOUT, block_rows=50)
    perfect = dict.fromkeys(KEYS, 1.0) | {"distortion": 0.0}
    assert report.all == pytest.approx(perfect, abs=1e-6)
    family = np.bincount(TREE.parent[TREE.parent >= 0], minlength=len(TREE))
    share = (family[TREE.parent[HELDOUT]] > 1).mean()
    assert 0 < share < 1
    siblings = {"parent@1_siblings": 1.0, "share_with_siblings": share}
    assert report.heldout == pytest.approx(perfect | siblings, abs=1e-6)


def test_only_children_are_told_apart() -> None:
    """Every only child is at its parent, every other held-out code at another one's."""
    everyone = np.arange(len(TREE))
    distance = TREE.tree_distance(everyone, everyone).astype(np.float64)
    family = np.bincount(TREE.parent[TREE.parent >= 0], minlength=len(TREE))
    others = HELDOUT[family[TREE.parent[HELDOUT]] > 1]
    distance[others[:, None], TREE.parent[others][:, None]] += 9
    heldout = evaluate_distances(MatrixDistances(distance), TREE, HELDOUT).heldout
    assert heldout["parent@1_siblings"] == 0
    assert heldout["parent@1"] == pytest.approx(1 - len(others) / len(HELDOUT))


def test_random_distances_score_low() -> None:
    matrix = np.random.default_rng(0).random((len(TREE), len(TREE)))
    report = evaluate_distances(MatrixDistances(matrix + matrix.T), TREE, HELDOUT)
    assert abs(report.all["cophenetic"]) < 0.03
    assert abs(report.all["spearman"]) < 0.03
    assert report.all["parent@1"] < 0.2
    assert report.all["map"] < 0.2
    assert report.all["distortion"] > 0.3


def test_a_good_embedding_is_told_from_its_shuffled_self() -> None:
    points = tree_points()
    good = evaluate(points, TREE, HELDOUT, 1.0)
    assert set(good.all) == KEYS
    assert set(good.heldout) == KEYS | {"parent@1_siblings", "share_with_siblings"}
    assert good.all["cophenetic"] > 0.8
    assert good.all["parent@1"] > 0.95
    assert good.all["ndcg@10"] > 0.9
    assert good.health["collapsed"] is False
    assert good.health["on_manifold"] is True
    assert good.health["radius/level_2"] < good.health["radius/level_6"]
    order = torch.randperm(len(TREE), generator=torch.Generator().manual_seed(1))
    bad = evaluate(points[order], TREE, HELDOUT, 1.0)
    for key in KEYS - {"distortion"}:
        assert good.all[key] > bad.all[key] + 0.2
        assert good.heldout[key] > bad.heldout[key] + 0.2
    assert good.all["distortion"] < bad.all["distortion"]


def test_heldout_scores_are_those_of_the_heldout_queries() -> None:
    points = tree_points()
    ruined = points.clone()
    noise = torch.randn(len(HELDOUT), 300, generator=torch.Generator().manual_seed(2))
    ruined[torch.from_numpy(HELDOUT)] = exp_map_origin(0.15 * noise, 1.0)
    report = evaluate(ruined, TREE, HELDOUT, 1.0)
    assert report.heldout["parent@1"] < 0.3
    assert report.heldout["cophenetic"] < report.all["cophenetic"] - 0.2
    assert report.all["parent@1"] > 0.8
    assert evaluate(points, TREE, np.array([], dtype=np.int64), 1.0).heldout == {}


@pytest.mark.parametrize("block_rows", [1, 64, 10_000])
def test_report_does_not_depend_on_the_block_size(block_rows: int) -> None:
    points = tree_points()
    expected = evaluate(points, TREE, HELDOUT, 1.0, block_rows=37)
    found = evaluate(points, TREE, HELDOUT, 1.0, block_rows=block_rows)
    assert found.all == pytest.approx(expected.all, rel=1e-6)
    assert found.heldout == pytest.approx(expected.heldout, rel=1e-6)


@pytest.mark.parametrize("curvature", [0.5, 2.0])
def test_scaling_the_space_changes_no_metric(curvature: float) -> None:
    tangent = torch.randn(len(TREE), 5, generator=torch.Generator().manual_seed(3))
    expected = evaluate(exp_map_origin(tangent, 1.0), TREE, HELDOUT, 1.0)
    scaled = exp_map_origin(tangent / curvature**0.5, curvature)
    found = evaluate(scaled, TREE, HELDOUT, curvature)
    assert found.all == pytest.approx(expected.all, rel=1e-4)
    ratio = found.health["mean_distance"] / expected.health["mean_distance"]
    assert ratio == pytest.approx(curvature**-0.5, rel=1e-4)


def test_identical_points_are_reported_as_a_collapse() -> None:
    point = exp_map_origin(torch.ones(1, 8), 1.0).repeat(len(TREE), 1)
    report = evaluate(point, TREE, HELDOUT, 1.0)
    assert report.health["collapsed"] is True
    assert report.health["mean_distance"] == pytest.approx(0, abs=1e-6)
    assert report.all["cophenetic"] == 0
    assert report.all["parent@1"] < 0.2  # a tie of all codes of the level above is no success
    assert report.all["ndcg@10"] < 0.6


def test_points_on_a_line_are_reported_as_a_collapse() -> None:
    line = torch.linspace(-3, 3, len(TREE))[:, None] * torch.nn.functional.normalize(
        torch.ones(1, 8), dim=1
    )
    report = evaluate(exp_map_origin(line, 1.0), TREE, HELDOUT, 1.0)
    assert report.health["effective_rank"] == pytest.approx(1, abs=0.05)
    assert report.health["collapsed"] is True


def test_points_beside_the_hyperboloid_are_reported() -> None:
    points = tree_points()
    points[4, 0] *= 1.01
    report = evaluate(points, TREE, HELDOUT, 1.0)
    assert report.health["on_manifold"] is False
    assert report.health["manifold_error"] == pytest.approx(0.01, rel=1e-3)


def test_broken_embeddings_are_refused() -> None:
    points = tree_points()
    with pytest.raises(DataError, match="taxonomy of"):
        evaluate(points[1:], TREE, HELDOUT, 1.0)
    points[3, 2] = torch.nan
    with pytest.raises(DataError, match=r"1 of \d+ codes are not finite"):
        evaluate(points, TREE, HELDOUT, 1.0)


def test_large_taxonomies_are_scored_on_sampled_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    points = tree_points()
    full = evaluate(points, TREE, HELDOUT, 1.0)
    monkeypatch.setattr(report_module, "MAX_QUERIES", 60)
    sampled = evaluate(points, TREE, HELDOUT, 1.0)
    assert full.health["queries_sampled"] is False
    assert full.health["num_queries"] == len(TREE)
    assert sampled.health["queries_sampled"] is True
    assert sampled.health["num_queries"] == 60
    assert sampled.all["ndcg@10"] == pytest.approx(full.all["ndcg@10"], abs=0.05)
    assert sampled.heldout == full.heldout  # fewer than the limit: all of them are asked


def test_pairs_equal_blocks() -> None:
    points = tree_points(dim=20)
    a, b = np.array([0, 5, 9, 9]), np.array([7, 5, 2, 100])
    for distances in (LorentzDistances(points, 1.0), CosineDistances(points[:, 1:])):
        expected = distances.block(a)[np.arange(4), b]
        np.testing.assert_allclose(distances.pairs(a, b), expected, rtol=1e-5, atol=1e-6)
    direct = geodesic_distance(points[0], points[7], 1.0).item()
    assert LorentzDistances(points, 1.0).pairs(a, b)[0] == pytest.approx(direct)
