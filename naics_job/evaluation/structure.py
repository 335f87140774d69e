"""How well distances follow the tree: correlations, distortion, and signs of a collapse."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from naics_job.evaluation.distances import Distances, FloatArray
from naics_job.taxonomy.tree import IntArray, Taxonomy

MAX_EXACT_PAIRS = 5_000 * 5_000  # rows x codes; beyond, pairs are drawn
NUM_SAMPLED_PAIRS = 2_000_000
SAMPLE_SEED = 20220101
COVARIANCE_ROWS = 8192


@dataclass(frozen=True)
class PairSample:
    """Pairs of different codes, each once."""

    distance: FloatArray  # [pair] float32
    tree_distance: IntArray  # [pair] edges
    sampled: bool  # drawn with a fixed seed (with replacement), not complete


def collect_pairs(
    distances: Distances, taxonomy: Taxonomy, rows: IntArray, block_rows: int
) -> PairSample:
    """All pairs of a code of `rows` with any other code, or a fixed sample of them when too many.

    `rows` = all positions gives every pair of the taxonomy; held-out codes give their pairs with
    the full set, a pair of two held-out codes once.
    """
    count = distances.num_codes
    if len(rows) * count > MAX_EXACT_PAIRS:
        return _draw_pairs(distances, taxonomy, rows)
    everyone = np.arange(count)
    listed = np.zeros(count, dtype=np.bool_)
    listed[rows] = True
    found, tree = [], []
    for start in range(0, len(rows), block_rows):
        block = rows[start : start + block_rows]
        after = everyone[None, :] > block[:, None]
        used = after | (~listed[None, :] & (everyone[None, :] != block[:, None]))
        found.append(distances.block(block)[used])
        tree.append(taxonomy.tree_distance(block, everyone)[used])
    return PairSample(np.concatenate(found), np.concatenate(tree), sampled=False)


def _draw_pairs(distances: Distances, taxonomy: Taxonomy, rows: IntArray) -> PairSample:
    rng = np.random.default_rng(SAMPLE_SEED)
    a = rng.choice(rows, NUM_SAMPLED_PAIRS)
    b = rng.integers(0, distances.num_codes - 1, NUM_SAMPLED_PAIRS)
    b = b + (b >= a)  # uniform over the other codes
    return PairSample(distances.pairs(a, b), taxonomy.pair_distance(a, b), sampled=True)


def pearson(x: FloatArray | IntArray, y: FloatArray | IntArray) -> float:
    """Pearson correlation of `x` `[n]` and `y` `[n]`; 0 when one of them is constant."""
    left, right = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    left, right = left - left.mean(), right - right.mean()
    # Rounding of the mean leaves about 1e-16 of its size in a constant vector.
    smallest = (
        1e-12 * max(float(np.abs(x).max()), 1e-30),
        1e-12 * max(float(np.abs(y).max()), 1e-30),
    )
    if np.abs(left).max() <= smallest[0] or np.abs(right).max() <= smallest[1]:
        return 0.0
    scale = np.sqrt(left @ left) * np.sqrt(right @ right)
    return float((left @ right) / scale)


def cophenetic(pairs: PairSample) -> float:
    """Pearson correlation of embedding and tree distances (DESIGN's name for it)."""
    return pearson(pairs.distance, pairs.tree_distance)


def spearman(pairs: PairSample) -> float:
    """Spearman correlation with average ranks: a perfect tree scores 1 in spite of its ties."""
    counts = np.bincount(pairs.tree_distance)
    average = counts.cumsum() - (counts - 1) / 2  # rank of each tree distance
    return pearson(rankdata(pairs.distance), average[pairs.tree_distance])


def distortion(pairs: PairSample) -> float:
    """Mean of |s * distance / tree distance - 1| at the single scale s that makes it smallest.

    That scale is the median of 1 / ratio with weights ratio, as the sum is
    ratio_i * |s - 1 / ratio_i|. 0 for a perfect embedding in any unit, 1 for a collapsed one.
    """
    ratio = np.sort(pairs.distance.astype(np.float64) / pairs.tree_distance)[::-1]
    weight = ratio.cumsum()
    if weight[-1] <= 0:
        return 1.0
    scale = 1 / ratio[np.searchsorted(weight, weight[-1] / 2)]
    return float(np.abs(scale * ratio - 1).mean())


def pair_metrics(pairs: PairSample) -> dict[str, float]:
    """The metrics over pairs under the names of the report."""
    return {
        "cophenetic": cophenetic(pairs),
        "spearman": spearman(pairs),
        "distortion": distortion(pairs),
    }


def effective_rank(vectors: Tensor) -> float:
    """exp of the entropy of the singular values of the centred `vectors` `[code, dim]`.

    Roy and Vetterli 2007, "The effective rank". Between 1 (a line) and dim; 0 for a single point.
    """
    centre = vectors.double().mean(0)
    dim = vectors.shape[1]
    covariance = torch.zeros(dim, dim, dtype=torch.float64, device=vectors.device)
    for block in torch.split(vectors, COVARIANCE_ROWS):
        moved = block.double() - centre
        covariance += moved.T @ moved
    values = torch.linalg.eigvalsh(covariance).clamp_min(0).sqrt()
    if values.sum() <= 1e-9 * max(1.0, float(centre.norm())):
        return 0.0
    share = values / values.sum()
    return float(torch.exp(torch.special.entr(share).sum()))


def radius_by_level(radius: FloatArray, taxonomy: Taxonomy) -> dict[int, float]:
    """Mean distance from the origin of the codes of each level (digits); `radius` is `[code]`."""
    levels = taxonomy.level
    return {int(n): float(radius[levels == n].mean()) for n in np.unique(levels)}
