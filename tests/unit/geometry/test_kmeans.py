"""k-means on the hyperboloid: planted clusters, references, empty clusters."""

import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from naics_job.geometry.kmeans import lorentz_kmeans, spherical_start
from naics_job.geometry.lorentz import centroid, exp_map_origin, log_map_origin, lorentz_gap


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def planted(num_groups: int, size: int, spread: float, dim: int = 8) -> tuple[Tensor, Tensor]:
    generator = seeded(7)
    centres = torch.randn(num_groups, dim, generator=generator)
    centres = 2.5 * torch.nn.functional.normalize(centres, dim=1)
    noise = spread * torch.randn(num_groups, size, dim, generator=generator)
    truth = torch.arange(num_groups).repeat_interleave(size)
    return exp_map_origin((centres[:, None] + noise).flatten(0, 1), 1.0), truth


def inertia_of(points: Tensor, labels: Tensor) -> float:
    members = torch.nn.functional.one_hot(labels).T.double()
    centroids = centroid(points.double(), members, 1.0)
    return float(lorentz_gap(points, centroids, 1.0).gather(1, labels[:, None]).sum())


@pytest.mark.parametrize("curvature", [0.5, 1.0, 2.0])
def test_mean_of_identical_points_is_that_point(curvature: float) -> None:
    point = exp_map_origin(torch.tensor([[1.2, -0.7, 1.5]]), curvature)
    result = lorentz_kmeans(point.repeat(5, 1), 1, 10, curvature, seeded())
    torch.testing.assert_close(result.centroids, point)
    assert result.converged
    assert result.inertia == pytest.approx(0, abs=1e-5)
    assert result.centroids.dtype == torch.float32


@pytest.mark.parametrize("seed", range(5))
def test_planted_clusters_are_found(seed: int) -> None:
    points, truth = planted(12, 30, spread=0.1)
    result = lorentz_kmeans(points, 12, 25, 1.0, seeded(seed))
    assert adjusted_rand_score(truth, result.labels) == pytest.approx(1.0)
    assert result.converged
    assert result.inertia == pytest.approx(inertia_of(points, truth), rel=1e-4)


def test_mean_inertia_is_not_above_scikit_learn_in_the_tangent_space() -> None:
    points = exp_map_origin(torch.randn(400, 6, generator=seeded(3)), 1.0)
    tangent = log_map_origin(points, 1.0).numpy()
    ours, theirs = 0.0, 0.0
    for seed in range(8):
        result = lorentz_kmeans(points, 20, 100, 1.0, seeded(seed))
        assert result.inertia == pytest.approx(inertia_of(points, result.labels), rel=1e-5)
        ours += result.inertia
        reference = KMeans(20, n_init=1, random_state=seed).fit(tangent)
        theirs += inertia_of(points, torch.from_numpy(reference.labels_).long())
    assert ours <= theirs


def test_inertia_never_grows_with_iterations() -> None:
    points = exp_map_origin(torch.randn(300, 5, generator=seeded(1)), 1.0)
    inertias = [lorentz_kmeans(points, 15, n, 1.0, seeded(2)).inertia for n in range(8)]
    assert inertias == sorted(inertias, reverse=True)
    assert inertias[-1] < inertias[0]


def test_labels_name_the_nearest_centroid() -> None:
    points, _ = planted(6, 20, spread=0.8)
    result = lorentz_kmeans(points, 9, 3, 1.0, seeded())
    nearest = lorentz_gap(points, result.centroids, 1.0).argmin(1)
    assert torch.equal(result.labels, nearest)


def test_same_generator_state_gives_same_clusters() -> None:
    points, _ = planted(10, 20, spread=0.5)
    first, second, other = (lorentz_kmeans(points, 7, 20, 1.0, seeded(s)) for s in (4, 4, 5))
    assert torch.equal(first.labels, second.labels)
    assert torch.equal(first.centroids, second.centroids)
    assert not torch.equal(first.labels, other.labels)


def test_start_does_not_depend_on_the_radius() -> None:
    tangent = torch.randn(100, 4, generator=seeded(9))
    lengths = torch.rand(100, 1, generator=seeded(8)) + 0.5
    labels = []
    for stretched in (tangent, tangent * lengths):
        points = exp_map_origin(stretched, 1.0)
        centres = spherical_start(points, 5, seeded(), 1.0)
        members = torch.nn.functional.normalize(tangent, dim=1) @ centres[:, 1:].T
        labels.append((members / centres[:, 1:].norm(dim=1)).argmax(1))
    assert adjusted_rand_score(*labels) > 0.8


def test_empty_clusters_are_filled() -> None:
    # all directions equal: the spherical start cannot tell the three radii apart
    lengths = torch.tensor([0.5, 0.51, 0.52, 3.0, 3.01, 6.0])
    points = exp_map_origin(lengths[:, None] * torch.tensor([[0.6, 0.8]]), 1.0)
    result = lorentz_kmeans(points, 3, 20, 1.0, seeded())
    assert result.labels.bincount(minlength=3).min() > 0
    assert adjusted_rand_score([0, 0, 0, 1, 1, 2], result.labels) == pytest.approx(1.0)


def test_fewer_distinct_points_than_clusters_terminates() -> None:
    points = exp_map_origin(torch.tensor([[1.0, 0.0], [0.0, 2.0]]).repeat(6, 1), 1.0)
    result = lorentz_kmeans(points, 5, 50, 1.0, seeded())
    assert result.iterations < 50
    assert result.inertia == pytest.approx(0, abs=1e-5)
    assert bool(torch.isfinite(result.centroids).all())


@pytest.mark.parametrize("num_clusters", [4, 9])
def test_as_many_clusters_as_points(num_clusters: int) -> None:
    points = exp_map_origin(torch.randn(4, 3, generator=seeded()), 1.0)
    result = lorentz_kmeans(points, num_clusters, 5, 1.0, seeded())
    assert result.labels.tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(result.centroids, points)
    assert result.inertia == 0
