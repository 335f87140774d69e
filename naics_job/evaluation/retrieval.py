"""How well the nearest codes of a code are its relatives: NDCG, MAP, parent@1.

Every code is a query against all others; the query itself is left out. Codes at the same distance
share their places evenly (NDCG, parent@1) or all stand at the last of them (MAP), so no result
depends on the order in which codes are stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from naics_job.evaluation.distances import Distances, FloatArray
from naics_job.taxonomy.tree import BoolArray, IntArray, Taxonomy

Scalar = TypeVar("Scalar", bound=np.generic)

RETRIEVAL_DEPTHS = (5, 10, 20)
RELEVANT_DISTANCE = 2  # edges: parent, children, siblings, grandparent and grandchildren


@dataclass(frozen=True)
class QueryScores:
    """Scores of each query; NaN where a score does not exist for it."""

    queries: IntArray  # [query] positions
    ndcg: dict[int, FloatArray]  # depth -> [query]
    average_precision: FloatArray  # [query]; NaN without a relative within RELEVANT_DISTANCE
    parent_hit: FloatArray  # [query]; NaN for sectors
    sibling_nearest: FloatArray  # [query]; NaN without siblings

    def means(self, chosen: BoolArray) -> dict[str, float]:
        """Mean scores over the `chosen` queries, `[query]` bool, under the names of the report."""
        found = {f"ndcg@{depth}": _mean(values[chosen]) for depth, values in self.ndcg.items()}
        found["map"] = _mean(self.average_precision[chosen])
        found["parent@1"] = _mean(self.parent_hit[chosen])
        return found


def score_queries(
    distances: Distances, taxonomy: Taxonomy, queries: IntArray, block_rows: int
) -> QueryScores:
    """Score `queries` against all codes; memory grows with `block_rows` x codes.

    NDCG: relevance 1 / (1 + tree distance), linear gain, discount 1 / log2(place + 1), ideal over
    the same candidates. MAP: average precision over the full list, relevant are the codes within
    RELEVANT_DISTANCE. parent@1: the nearest code one level up is the parent.
    """
    everyone = np.arange(distances.num_codes)
    ndcg: dict[int, list[FloatArray]] = {depth: [] for depth in RETRIEVAL_DEPTHS}
    precision, parent, sibling = [], [], []
    for start in range(0, len(queries), block_rows):
        rows = queries[start : start + block_rows]
        distance = distances.block(rows)  # [rows, code]
        tree = taxonomy.tree_distance(rows, everyone)  # [rows, code]
        parent.append(parent_hits(distance, taxonomy, rows))
        distance, tree = without_self(distance, rows), without_self(tree, rows)
        relevance = 1 / (1.0 + tree)
        for depth, values in ndcg_at(distance, relevance, RETRIEVAL_DEPTHS).items():
            ndcg[depth].append(values)
        precision.append(average_precision(distance, tree <= RELEVANT_DISTANCE))
        sibling.append(sibling_hits(distance, taxonomy, rows))
    return QueryScores(
        queries,
        {depth: np.concatenate(parts) for depth, parts in ndcg.items()},
        np.concatenate(precision),
        np.concatenate(parent),
        np.concatenate(sibling),
    )


def without_self(values: npt.NDArray[Scalar], rows: IntArray) -> npt.NDArray[Scalar]:
    """`values` `[rows, code]` without the column of each row's own code: `[rows, code - 1]`."""
    others = np.arange(values.shape[1])[None, :] != np.asarray(rows)[:, None]
    kept: npt.NDArray[Scalar] = values[others].reshape(len(rows), -1)
    return kept


def ndcg_at(
    distance: FloatArray, relevance: FloatArray, depths: Sequence[int]
) -> dict[int, FloatArray]:
    """NDCG `[query]` by depth of candidates ranked by `distance` `[query, candidate]`.

    A candidate that shares its distance with others gets the mean relevance of the group, which is
    the expectation over all orders of the ties (McSherry and Najork 2008).
    """
    order, first, last = _ranking(distance)
    ranked = np.take_along_axis(relevance, order, axis=1).astype(np.float64)
    total = np.pad(ranked.cumsum(axis=1), ((0, 0), (1, 0)))  # [query, candidate + 1]
    group = np.take_along_axis(total, last + 1, 1) - np.take_along_axis(total, first, 1)
    shared = group / (last - first + 1)  # [query, candidate]
    best = -np.sort(-relevance, axis=1)[:, : max(depths)]
    discount = 1 / np.log2(np.arange(2, relevance.shape[1] + 2))
    result = {}
    for depth in depths:
        ideal = best[:, :depth] @ discount[: best[:, :depth].shape[1]]
        gained = shared[:, :depth] @ discount[:depth]
        result[depth] = np.divide(gained, ideal, out=np.zeros_like(gained), where=ideal > 0)
    return result


def average_precision(distance: FloatArray, relevant: BoolArray) -> FloatArray:
    """Average precision `[query]` over the full list; NaN for a query without a relevant candidate.

    Precision at a relevant candidate counts every candidate at or below its distance, as
    label_ranking_average_precision_score of scikit-learn does.
    """
    order, _, last = _ranking(distance)
    ranked = np.take_along_axis(relevant, order, axis=1)
    found = np.take_along_axis(ranked.cumsum(axis=1), last, axis=1)
    precision = found / (last + 1)  # [query, candidate]
    count = ranked.sum(axis=1).astype(np.float64)
    total = (precision * ranked).sum(axis=1)
    missing = np.full(len(total), np.nan)
    result: FloatArray = np.divide(total, count, out=missing, where=count > 0)
    return result


def parent_hits(distance: FloatArray, taxonomy: Taxonomy, rows: IntArray) -> FloatArray:
    """Whether the nearest code one level up is the parent, `[rows]`; a tie of n counts 1/n.

    NaN for sectors. `distance` is `[rows, code]`.
    """
    hits = np.full(len(rows), np.nan)
    depth = taxonomy.depth[rows]
    for level in range(2, taxonomy.max_depth + 1):
        chosen = np.flatnonzero(depth == level)
        above = np.flatnonzero(taxonomy.depth == level - 1)
        if len(chosen):
            column = np.searchsorted(above, taxonomy.parent[rows[chosen]])
            part = distance[np.ix_(chosen, above)]
            nearest = part == part.min(axis=1, keepdims=True)
            hits[chosen] = nearest[np.arange(len(chosen)), column] / nearest.sum(axis=1)
    return hits


def sibling_hits(distance: FloatArray, taxonomy: Taxonomy, rows: IntArray) -> FloatArray:
    """Whether the nearest other code is a sibling, `[rows]`; a tie counts its share of siblings.

    NaN for a code without siblings. `distance` is `[rows, code - 1]`, the own code left out.
    """
    same = taxonomy.parent[rows][:, None] == taxonomy.parent[None, :]  # [rows, code]
    sibling = without_self(same, rows)
    nearest = distance == distance.min(axis=1, keepdims=True)
    share = (nearest & sibling).sum(axis=1) / nearest.sum(axis=1)
    return np.where(sibling.any(axis=1), share, np.nan)


def _ranking(distance: FloatArray) -> tuple[IntArray, IntArray, IntArray]:
    """Order by distance, and the first and last place of each place's ties, all `[query, n]`."""
    order = np.argsort(distance, axis=1, kind="stable")
    ranked = np.take_along_axis(distance, order, axis=1)
    count = distance.shape[1]
    places = np.broadcast_to(np.arange(count), distance.shape)
    border = ranked[:, 1:] != ranked[:, :-1]
    opens = np.pad(border, ((0, 0), (1, 0)), constant_values=True)
    closes = np.pad(border, ((0, 0), (0, 1)), constant_values=True)
    first = np.maximum.accumulate(np.where(opens, places, 0), axis=1)
    backwards = np.where(closes, places, count)[:, ::-1]
    last = np.minimum.accumulate(backwards, axis=1)[:, ::-1]
    return order, first, last


def _mean(values: FloatArray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
