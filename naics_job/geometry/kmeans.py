"""k-means on the hyperboloid: a spherical start, then Lorentz centroids."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from naics_job.geometry.lorentz import centroid_of_sum, lorentz_gap, project, widen

BLOCK_ROWS = 8192  # points held in float64 at a time: 25 MB at dim 384
START_POINTS = 65_536  # a larger set is seeded from a sample of this size
SPHERICAL_ITERATIONS = 5


@dataclass(frozen=True)
class KMeansResult:
    """A clustering of n points."""

    labels: Tensor  # [n] int64, 0..k-1
    centroids: Tensor  # [k, dim + 1]; k is at most the number of points
    inertia: float  # sum of squared Lorentz distances to the own centroid
    iterations: int
    converged: bool


def lorentz_kmeans(
    points: Tensor,
    num_clusters: int,
    max_iterations: int,
    curvature: float,
    generator: torch.Generator,
) -> KMeansResult:
    """Clusters of `points` by Lloyd's algorithm with the Lorentz centroid (Law et al. 2019).

    Assignment and centroid both lower the sum of squared Lorentz distances, so it never grows.
    Differs from the textbook: a cluster that lost its points takes the point farthest from its own
    centroid, so one is empty at convergence only if there are fewer distinct points than clusters.

    Args:
        points: `[n, dim + 1]`; one cluster per point when `num_clusters` is n or more.
        num_clusters: clusters to form, at least 1.
        max_iterations: upper bound of the passes.
        curvature: c > 0.
        generator: a CPU generator; the same state gives the same clusters.
    """
    points = points.detach()
    count = points.shape[0]
    if num_clusters >= count:
        labels = torch.arange(count, device=points.device)
        return KMeansResult(labels, project(points, curvature), 0.0, 0, True)
    centroids = spherical_start(points, num_clusters, generator, curvature)
    labels, gap = _assign(points, centroids, curvature)
    iterations, converged = 0, False
    while iterations < max_iterations and not converged:
        iterations += 1
        reseeded = _fill_empty(labels, gap, num_clusters)
        centroids = _centroids(points, reseeded, centroids, curvature)
        following, gap = _assign(points, centroids, curvature)
        converged = torch.equal(following, labels)
        labels = following
    return KMeansResult(labels, centroids, float(gap.sum()), iterations, converged)


def spherical_start(
    points: Tensor, num_clusters: int, generator: torch.Generator, curvature: float
) -> Tensor:
    """First centroids `[num_clusters, dim + 1]`: Lorentz centroids of a clustering by direction.

    k-means++ seeds (Arthur and Vassilvitskii 2007) and a few passes of spherical k-means (Dhillon
    and Modha 2001) on the directions of `points` `[n, dim + 1]` as seen from the origin. A point at
    the origin has no direction and goes to any cluster.
    """
    if points.shape[0] > START_POINTS:
        sample = torch.randperm(points.shape[0], generator=generator)[:START_POINTS]
        points = points[sample.to(points.device)]
    directions = normalize(widen(points[:, 1:]), dim=1)  # [n, dim]
    centres = directions[_plus_plus(directions, num_clusters, generator)]  # [k, dim]
    labels = (directions @ centres.T).argmax(1)  # [n]
    for _ in range(SPHERICAL_ITERATIONS):
        total = _group_sums(directions, labels, num_clusters)
        filled = total.square().sum(1, keepdim=True) > 0
        centres = torch.where(filled, normalize(total, dim=1), centres)
        labels = (directions @ centres.T).argmax(1)
    seeds = project(torch.cat([centres[:, :1], centres], dim=1).to(points.dtype), curvature)
    return _centroids(points, labels, seeds, curvature)


def _plus_plus(directions: Tensor, num_clusters: int, generator: torch.Generator) -> Tensor:
    """Positions `[num_clusters]` of seeds, drawn with weight 1 - cosine to the nearest seed.

    Of a few draws per seed the one that lowers the sum most is kept, as scikit-learn does.
    """
    count = directions.shape[0]
    trials = 2 + int(math.log(num_clusters))
    seeds = [int(torch.randint(count, (1,), generator=generator))]
    nearest = (1 - directions @ directions[seeds[0]]).clamp_min(0)  # [n]
    for _ in range(1, num_clusters):
        cumulative = nearest.cumsum(0)
        draws = torch.rand(trials, generator=generator, dtype=torch.float64).to(nearest)
        drawn = torch.searchsorted(cumulative, draws * cumulative[-1]).clamp_max(count - 1)
        reached = (1 - directions @ directions[drawn].T).clamp_min(0)  # [n, trials]
        reached = torch.minimum(reached, nearest[:, None])
        best = int(reached.sum(0).argmin())
        seeds.append(int(drawn[best]))
        nearest = reached[:, best]
    return torch.tensor(seeds, device=directions.device)


def _group_sums(rows: Tensor, labels: Tensor, num_clusters: int) -> Tensor:
    """Sums `[num_clusters, dim]` by label, as a product: on a GPU this repeats bit for bit."""
    members = torch.nn.functional.one_hot(labels, num_clusters).to(rows.dtype)
    return members.T @ rows


def _assign(points: Tensor, centroids: Tensor, curvature: float) -> tuple[Tensor, Tensor]:
    """Nearest centroid `[n]` of each point and the squared Lorentz distance `[n]` to it."""
    labels, gaps = [], []
    for block in torch.split(points, BLOCK_ROWS):
        nearest = lorentz_gap(block, centroids, curvature).min(dim=1)
        labels.append(nearest.indices)
        gaps.append(nearest.values.clamp_min(0))
    return torch.cat(labels), torch.cat(gaps)


def _centroids(points: Tensor, labels: Tensor, previous: Tensor, curvature: float) -> Tensor:
    """Lorentz centroids `[k, dim + 1]` by label; a cluster without points keeps `previous`."""
    num_clusters = previous.shape[0]
    total = torch.zeros_like(widen(previous))
    for block, group in zip(
        torch.split(points, BLOCK_ROWS), torch.split(labels, BLOCK_ROWS), strict=True
    ):
        total += _group_sums(project(widen(block), curvature), group, num_clusters)
    sizes = torch.bincount(labels, minlength=num_clusters)
    found = centroid_of_sum(total, curvature).to(points.dtype)
    return torch.where((sizes > 0)[:, None], found, previous)


def _fill_empty(labels: Tensor, gap: Tensor, num_clusters: int) -> Tensor:
    """Labels in which each empty cluster got the farthest point of a cluster with company."""
    sizes = torch.bincount(labels, minlength=num_clusters)
    empty = (sizes == 0).nonzero().flatten().tolist()
    if not empty:
        return labels
    labels, gap = labels.clone(), gap.clone()
    for cluster in empty:
        farthest = int(torch.where(sizes[labels] > 1, gap, -1.0).argmax())
        if gap[farthest] <= 0:
            break
        sizes[labels[farthest]] -= 1
        sizes[cluster] += 1
        labels[farthest] = cluster
        gap[farthest] = 0
    return labels
