"""Text search: how high the true six-digit code of a text stands among all six-digit codes.

Codes at the same distance as the true one share their places evenly: every score is its expectation
over the orders of the ties, so none depends on the order in which codes are stored, and an
embedding that puts all codes on one spot scores as a blind guess does.
"""

from collections.abc import Sequence

import numpy as np

from naics_job.evaluation.distances import Distances, FloatArray
from naics_job.taxonomy.tree import IntArray

SEARCH_DEPTHS = (1, 5)
BLOCK_QUERIES = 256


def score_search(distances: Distances, candidates: IntArray, truth: IntArray) -> dict[str, float]:
    """`top@1`, `top@5`, `mrr` and `num_queries`; empty without a query.

    Args:
        distances: between the codes and, after them, the queries.
        candidates: positions of the codes that may be answers, ascending.
        truth: position of each query's code, `[query]`; all among `candidates`.
    """
    column = np.searchsorted(candidates, truth)
    assert np.array_equal(candidates[column], truth), "a true code is no candidate"
    first = distances.num_codes - len(truth)  # row of the first query
    nearer, tied = [], []
    for start in range(0, len(truth), BLOCK_QUERIES):
        part = column[start : start + BLOCK_QUERIES]
        rows = first + start + np.arange(len(part))
        places = places_of_truth(distances.block(rows)[:, candidates], part)
        nearer.append(places[0])
        tied.append(places[1])
    if not nearer:
        return {}
    return search_metrics(np.concatenate(nearer), np.concatenate(tied))


def places_of_truth(distance: FloatArray, column: IntArray) -> tuple[IntArray, IntArray]:
    """Candidates nearer than the true one, and as near (itself included), both `[query]`.

    Args:
        distance: `[query, candidate]`.
        column: the candidate that is the truth, `[query]`.
    """
    own = np.take_along_axis(distance, column[:, None], axis=1)  # [query, 1]
    return (distance < own).sum(axis=1), (distance == own).sum(axis=1)


def search_metrics(
    nearer: IntArray, tied: IntArray, depths: Sequence[int] = SEARCH_DEPTHS
) -> dict[str, float]:
    """Mean scores of queries whose truth has place nearer + 1 ... nearer + tied, each as likely.

    `top@k` is the chance of a place of at most k; `mrr` the mean of 1 / place.
    """
    scores = {f"top@{k}": float((np.clip(k - nearer, 0, tied) / tied).mean()) for k in depths}
    inverse = 1 / np.arange(1, int((nearer + tied).max()) + 1)
    harmonic = np.concatenate(([0.0], inverse.cumsum()))  # sum of 1 / place up to each place
    scores["mrr"] = float(((harmonic[nearer + tied] - harmonic[nearer]) / tied).mean())
    scores["num_queries"] = float(len(nearer))
    return scores
