"""One evaluation: metrics over all and over held-out codes, and the health of the embedding."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from naics_job.errors import DataError
from naics_job.evaluation.distances import Distances, LorentzDistances
from naics_job.evaluation.retrieval import QueryScores, score_queries
from naics_job.evaluation.structure import (
    SAMPLE_SEED,
    collect_pairs,
    effective_rank,
    pair_metrics,
    radius_by_level,
)
from naics_job.geometry.lorentz import log_map_origin, on_manifold_error, radius
from naics_job.taxonomy.tree import BoolArray, IntArray, Taxonomy

MAX_QUERIES = 5_000  # more codes than this: the queries are a sample with a fixed seed
BLOCK_ROWS = 256
MAX_BLOCK_VALUES = 4_000_000  # rows x codes at a time, whatever the number of rows asked for

COLLAPSE_DISTANCE = 1e-2  # mean pairwise distance, in the unit of the metric, at or below
COLLAPSE_RANK = 1.5  # or fewer effective dimensions
MANIFOLD_TOLERANCE = 1e-4  # relative error of the time component


@dataclass(frozen=True)
class EvaluationReport:
    """Metrics by name.

    `all` and `heldout`: cophenetic, spearman, distortion, ndcg@5, ndcg@10, ndcg@20, map, parent@1;
    `heldout` is empty when nothing is held out; it also has parent@1_siblings and
    share_with_siblings, see `_with_siblings`. `health`: mean_distance, effective_rank, collapsed,
    sibling_confusion, num_pairs, pairs_sampled, num_queries, queries_sampled, and for points of the
    hyperboloid radius/level_2 .. radius/level_6, max_radius, manifold_error, on_manifold.
    """

    all: dict[str, float]
    heldout: dict[str, float]
    health: dict[str, float | bool]


def evaluate(
    points: Tensor,
    taxonomy: Taxonomy,
    heldout: IntArray,
    curvature: float,
    *,
    block_rows: int = BLOCK_ROWS,
) -> EvaluationReport:
    """Evaluate `points` `[code, dim + 1]`, one for each position of `taxonomy`.

    Args:
        points: on the hyperboloid of `curvature`.
        taxonomy: the tree to compare with.
        heldout: positions of codes without a part in training; each is a query against all codes.
        curvature: c > 0.
        block_rows: rows of the distance matrix held at a time.

    Raises:
        DataError: another number of points than codes, or points that are not finite.
    """
    points = _checked(points, taxonomy)
    report = evaluate_distances(
        LorentzDistances(points, curvature), taxonomy, heldout, block_rows=block_rows
    )
    lengths = radius(points, curvature)  # [code]
    error = float(on_manifold_error(points, curvature).max())
    by_level = radius_by_level(lengths.numpy(), taxonomy)
    health = {
        **_collapse(report.health, effective_rank(log_map_origin(points, curvature))),
        **{f"radius/level_{level}": mean for level, mean in by_level.items()},
        "max_radius": float(lengths.max()),
        "manifold_error": error,
        "on_manifold": error <= MANIFOLD_TOLERANCE,
    }
    return EvaluationReport(report.all, report.heldout, health)


def evaluate_distances(
    distances: Distances, taxonomy: Taxonomy, heldout: IntArray, *, block_rows: int = BLOCK_ROWS
) -> EvaluationReport:
    """The metrics of any distances between the codes; `health` holds what distances alone tell."""
    everyone, heldout = np.arange(len(taxonomy)), np.unique(heldout)
    block_rows = max(1, min(block_rows, MAX_BLOCK_VALUES // len(taxonomy)))
    queries = np.union1d(_limited(everyone), _limited(heldout))
    scores = score_queries(distances, taxonomy, queries, block_rows)
    pairs = collect_pairs(distances, taxonomy, everyone, block_rows)
    counted = np.isin(queries, _limited(everyone))
    metrics = {**pair_metrics(pairs), **scores.means(counted)}
    health: dict[str, float | bool] = {
        "mean_distance": float(pairs.distance.mean(dtype=np.float64)),
        "sibling_confusion": _sibling_confusion(scores),
        "num_pairs": len(pairs.distance),
        "pairs_sampled": pairs.sampled,
        "num_queries": int(counted.sum()),
        "queries_sampled": len(everyone) > MAX_QUERIES,
    }
    unseen: dict[str, float] = {}
    if len(heldout):
        unseen_pairs = collect_pairs(distances, taxonomy, heldout, block_rows)
        asked = np.isin(queries, _limited(heldout))
        unseen = {**pair_metrics(unseen_pairs), **scores.means(asked)}
        unseen |= _with_siblings(scores, asked)
    return EvaluationReport(metrics, unseen, health)


def _limited(positions: IntArray) -> IntArray:
    if len(positions) <= MAX_QUERIES:
        return positions
    rng = np.random.default_rng(SAMPLE_SEED)
    return np.sort(rng.choice(positions, MAX_QUERIES, replace=False))


def _with_siblings(scores: QueryScores, asked: BoolArray) -> dict[str, float]:
    """parent@1 of the held-out codes that have siblings, and their share of all held-out codes.

    An only child often has its parent's title, and Census gives both one description: its parent is
    easy to find, and has been trained on what is nearly the child's own text.
    """
    siblings = asked & ~np.isnan(scores.sibling_nearest)
    found = scores.means(siblings)["parent@1"]
    share = float(siblings.sum() / max(1, asked.sum()))
    return {"parent@1_siblings": found, "share_with_siblings": share}


def _sibling_confusion(scores: QueryScores) -> float:
    known = scores.sibling_nearest[~np.isnan(scores.sibling_nearest)]
    return float(known.mean()) if len(known) else 0.0


def _collapse(health: dict[str, float | bool], rank: float) -> dict[str, float | bool]:
    collapsed = health["mean_distance"] <= COLLAPSE_DISTANCE or rank < COLLAPSE_RANK
    return {**health, "effective_rank": rank, "collapsed": collapsed}


def _checked(values: Tensor, taxonomy: Taxonomy) -> Tensor:
    values = values.detach().cpu()
    if values.shape[0] != len(taxonomy):
        raise DataError(
            f"{values.shape[0]} embeddings for a taxonomy of {len(taxonomy)} codes",
            "evaluate an embedding with the code table it was made from",
        )
    broken = int((~torch.isfinite(values).flatten(1).all(1)).sum())
    if broken:
        raise DataError(
            f"the embeddings of {broken} of {len(taxonomy)} codes are not finite",
            "training has diverged: lower training.learning_rate or resume an older checkpoint",
        )
    return values
