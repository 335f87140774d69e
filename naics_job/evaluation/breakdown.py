"""Where the error of an embedding comes from: which distances, levels, sectors and codes.

1 - r^2 of a Pearson correlation is the share of the variance that a straight line leaves
unexplained, a sum over pairs. So the error can be divided among groups of pairs without rest. The
same holds for Spearman with ranks in place of distances.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from naics_job.evaluation.distances import Distances, FloatArray
from naics_job.evaluation.structure import SAMPLE_SEED
from naics_job.taxonomy.tree import BoolArray, IntArray, Taxonomy

MAX_CODES = 4_000  # more: the pairs of a sample of codes with a fixed seed
BLOCK_ROWS = 256


@dataclass(frozen=True)
class Pairs:
    """Pairs of different codes, each once; `[pair]` each."""

    a: IntArray  # positions
    b: IntArray
    distance: FloatArray
    tree_distance: IntArray  # edges


@dataclass(frozen=True)
class Fit:
    """The straight line of distance over tree distance, and what it leaves unexplained."""

    slope: float
    intercept: float
    correlation: float
    error: FloatArray  # [pair] squared residual over the variance; its sum is 1 - correlation^2
    spread: float  # part of 1 - correlation^2 from pairs at the same tree distance that differ
    bend: float  # the other part: mean distances do not lie on a line


@dataclass(frozen=True)
class DistanceRow:
    """Embedding distances of the pairs at one tree distance."""

    tree_distance: int
    pairs: int
    mean: float
    std: float
    above_previous: float  # P(a pair is farther apart than one of the tree distance before); or NaN


@dataclass(frozen=True)
class GroupRow:
    """One group of codes beside all others."""

    name: str
    codes: int
    pair_share: float  # of all pair ends
    error_share: float  # of 1 - correlation^2; half of a pair's error goes to each end
    parent_hit: float  # mean parent@1 of its codes; NaN when none has a parent
    ndcg: float  # mean NDCG@10 of its codes


def all_pairs(distances: Distances, taxonomy: Taxonomy) -> Pairs:
    """Every pair of codes, or of `MAX_CODES` of them."""
    chosen = np.arange(len(taxonomy))
    if len(chosen) > MAX_CODES:
        rng = np.random.default_rng(SAMPLE_SEED)
        chosen = np.sort(rng.choice(chosen, MAX_CODES, replace=False))
    parts: list[tuple[IntArray, IntArray, FloatArray, IntArray]] = []
    for start in range(0, len(chosen), BLOCK_ROWS):
        rows = chosen[start : start + BLOCK_ROWS]
        row, column = np.nonzero(chosen[None, :] > rows[:, None])
        distance = distances.block(rows)[row, chosen[column]]
        tree = taxonomy.tree_distance(rows, chosen)[row, column]
        parts.append((rows[row], chosen[column], distance, tree))
    return Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def fit_distance(pairs: Pairs) -> Fit:
    """Distance on tree distance: its correlation is the cophenetic one."""
    return _fit(pairs.distance.astype(np.float64), pairs.tree_distance, pairs.tree_distance)


def fit_rank(pairs: Pairs) -> Fit:
    """Rank of the distance on (average) rank of the tree distance: Spearman's correlation."""
    ranks = rankdata(pairs.tree_distance)
    return _fit(rankdata(pairs.distance), ranks, pairs.tree_distance)


def _fit(y: FloatArray, x: FloatArray | IntArray, groups: IntArray) -> Fit:
    centred_x, centred_y = x - np.mean(x, dtype=np.float64), y - y.mean()
    variance_x, variance_y = float(centred_x @ centred_x), float(centred_y @ centred_y)
    if variance_x <= 0 or variance_y <= 0:
        return Fit(0.0, float(y.mean()), 0.0, np.full(len(y), 1 / len(y)), 1.0, 0.0)
    slope = float(centred_x @ centred_y) / variance_x
    error = (centred_y - slope * centred_x) ** 2 / variance_y
    counts = np.bincount(groups)
    means = np.bincount(groups, weights=y) / np.maximum(counts, 1)
    spread = float(((y - means[groups]) ** 2).sum() / variance_y)
    correlation = slope * (variance_x / variance_y) ** 0.5
    intercept = float(y.mean() - slope * np.mean(x, dtype=np.float64))
    return Fit(slope, intercept, correlation, error, spread, float(error.sum()) - spread)


def by_tree_distance(pairs: Pairs) -> list[DistanceRow]:
    """One row per tree distance that occurs, ascending."""
    rows: list[DistanceRow] = []
    previous: FloatArray | None = None
    for tree in np.unique(pairs.tree_distance).tolist():
        found = np.sort(pairs.distance[pairs.tree_distance == tree].astype(np.float64))
        above = float("nan") if previous is None else _chance_above(found, previous)
        rows.append(DistanceRow(tree, len(found), float(found.mean()), float(found.std()), above))
        previous = found
    return rows


def _chance_above(values: FloatArray, others: FloatArray) -> float:
    """Chance that one of `values` exceeds one of `others`, ties half; both sorted."""
    below = np.searchsorted(others, values, "left") + np.searchsorted(others, values, "right")
    return float(below.mean() / 2 / len(others))


def by_group(
    pairs: Pairs,
    error: FloatArray,
    labels: Sequence[str],
    parent_hit: FloatArray,
    ndcg: FloatArray,
) -> list[GroupRow]:
    """One row per label of the codes, in the order of the labels.

    Args:
        pairs: of the codes.
        error: of each pair, `[pair]`.
        labels: of each code, `[code]`.
        parent_hit: `[code]`, NaN where there is no parent.
        ndcg: `[code]`.
    """
    names, group = np.unique(np.asarray(labels), return_inverse=True)
    ends = np.concatenate([group[pairs.a], group[pairs.b]])
    errors = np.bincount(ends, weights=np.concatenate([error, error]), minlength=len(names))
    pair_ends = np.bincount(ends, minlength=len(names))
    total = max(float(errors.sum()), 1e-30)
    return [
        GroupRow(
            name=str(name),
            codes=int((group == row).sum()),
            pair_share=float(pair_ends[row] / pair_ends.sum()),
            error_share=float(errors[row] / total),
            parent_hit=mean(parent_hit[group == row]),
            ndcg=mean(ndcg[group == row]),
        )
        for row, name in enumerate(names)
    ]


@dataclass(frozen=True)
class Contrast:
    """A score of the codes with a property and of those without."""

    with_count: int
    with_mean: float
    without_count: int
    without_mean: float
    standard_error: float  # of the difference

    @property
    def difference(self) -> float:
        """Mean without the property minus mean with it; below 0: it is missed."""
        return self.without_mean - self.with_mean


def contrast(score: FloatArray, has: BoolArray, among: BoolArray) -> Contrast:
    """Compare the known `score` `[code]` of the codes `among` that have a property or lack it."""
    known = among & ~np.isnan(score)
    have, lack = score[known & has], score[known & ~has]
    squares = [part.var() / max(1, len(part) - 1) if len(part) else 0.0 for part in (have, lack)]
    error = float(np.sqrt(sum(squares)))
    return Contrast(len(have), mean(have), len(lack), mean(lack), error)


def mean(values: FloatArray) -> float:
    """Mean of the values that are known, NaN when none is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
