"""The order and the probabilities of the six-digit codes for queries that have been placed."""

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
LEXICAL_WEIGHT = 0.5
AS_IT_IS = (1.0, 0.0)  # factor and shift of log odds that change nothing
BLOCK_QUERIES = 256


@dataclass(frozen=True)
class Certainty:
    """How scores become probabilities, by kind of query: short ones, then long ones.

    Logits = score * exp(slope_0 + slope_1 * distance to the nearest code). The log odds of the
    first answer, against all others, then become first_answer_0 * odds + first_answer_1, but no
    smaller than another's; the others share what is left as before.

    Attributes:
        slope, first_answer: `[kind, 2]`.
    """

    slope: tuple[tuple[float, float], ...]
    first_answer: tuple[tuple[float, float], ...] = (AS_IT_IS, AS_IT_IS)


@dataclass(frozen=True)
class SearchCalibration:
    """How `search` makes an order and probabilities of distances.

    Score of a code = -(distance + item_weight * distance to its nearest index item). With
    `--lexical` a code whose words are the query's own gains `lexical_weight` times what lies
    between the best and the worst score of that query, other codes as much of it as the cosine of
    their words.

    Attributes:
        item_weight: of short queries and of long ones, `[kind]`.
        plain: probabilities.
        lexical: those of `--lexical`.
        lexical_weight: see above.
    """

    item_weight: tuple[float, ...]
    plain: Certainty
    lexical: Certainty
    lexical_weight: float = LEXICAL_WEIGHT


@dataclass(frozen=True)
class Ranked:
    """What is thought of the codes, both `[query, leaf]` float64: scores, higher is better."""

    score: Array
    probability: Array  # of each row together 1


class CodeRanker:
    """Compares queries with the points of the codes and of their index items.

    Args:
        leaves: points of the six-digit codes `[leaf, dim + 1]`.
        items: points of texts of those codes `[item, dim + 1]`.
        item_leaf: which code each of those has, `[item]` int64.
        curvature: c > 0.
        calibration: see there.
    """

    def __init__(
        self,
        leaves: Array,
        items: Array,
        item_leaf: Array,
        curvature: float,
        calibration: SearchCalibration,
    ) -> None:
        self.curvature, self.calibration = curvature, calibration
        self.item_row = np.argsort(item_leaf, kind="stable")  # of `items`, code by code
        self.item_start = np.searchsorted(item_leaf[self.item_row], np.arange(len(leaves) + 1))
        self._leaves = leaves.astype(np.float32, copy=False)
        self._items = items.astype(np.float32, copy=False)[self.item_row]
        self._filled = np.flatnonzero(np.diff(self.item_start))  # codes with items

    def rank(self, points: Array, long: Array, lexical: Array | None = None) -> Ranked:
        """Scores and probabilities of all codes.

        Args:
            points: of the queries `[query, dim + 1]` float32.
            long: whether each is read as a description `[query]` bool.
            lexical: cosines of its words with those of each code `[query, leaf]`.
        """
        blocks = []
        for start in range(0, len(points), BLOCK_QUERIES):
            part = slice(start, start + BLOCK_QUERIES)
            words = None if lexical is None else lexical[part]
            blocks.append(self._rank(points[part], long[part], words))
        if not blocks:
            none = np.zeros((0, len(self._leaves)))
            return Ranked(none, none)
        return Ranked(
            np.concatenate([block.score for block in blocks]),
            np.concatenate([block.probability for block in blocks]),
        )

    def nearest_item(self, point: Array, first: int, end: int) -> int | None:
        """The row of the item nearest to `point` `[dim + 1]` among those of some codes.

        Args:
            point: of the query.
            first: the first of the codes.
            end: one past the last; without an item between them there is no answer.
        """
        start, stop = int(self.item_start[first]), int(self.item_start[end])
        if start == stop:
            return None
        return int(self.item_row[start + int((self._items[start:stop] @ _turned(point)).argmin())])

    def _rank(self, points: Array, long: Array, lexical: Array | None) -> Ranked:
        turned = _turned(points)
        own = self._distance(turned @ self._leaves.T)  # [query, leaf]
        kind = long.astype(np.int64)
        weight = np.array(self.calibration.item_weight)[kind, None]
        nearest_item = own.copy()  # of a code without items the code itself
        if len(self._filled):
            product = turned @ self._items.T  # [query, item]
            least = np.minimum.reduceat(product, self.item_start[self._filled], axis=1)
            nearest_item[:, self._filled] = self._distance(least)
        score = -(own + weight * nearest_item)
        certainty = self.calibration.plain
        if lexical is not None:
            certainty = self.calibration.lexical
            spread = score.max(axis=1, keepdims=True) - score.min(axis=1, keepdims=True)
            score += self.calibration.lexical_weight * spread * lexical
        slope = np.array(certainty.slope)[kind]  # [query, 2]
        scale = np.exp(slope[:, :1] + slope[:, 1:] * own.min(axis=1, keepdims=True))
        logits = _with_odds(score * scale, np.array(certainty.first_answer)[kind])
        share = np.exp(logits - logits.max(axis=1, keepdims=True))
        return Ranked(score, share / share.sum(axis=1, keepdims=True))

    def _distance(self, product: Array) -> Array:
        """Distances float64 of minus the Lorentz products of points."""
        cosh = np.maximum(self.curvature * product.astype(np.float64), 1.0)
        distance: Array = np.arccosh(cosh) / math.sqrt(self.curvature)
        return distance


def odds_of_first(logits: Array) -> tuple[Array, Array, Array]:
    """The first answer of each query against all others; there are at least two.

    Args:
        logits: `[query, leaf]` float64.

    Returns:
        Its column `[query, 1]`, the log odds `[query, 1]`, and the logits with -inf in its place.
    """
    first = logits.argmax(axis=1)[:, None]
    others = logits.copy()
    np.put_along_axis(others, first, -np.inf, axis=1)
    return first, np.take_along_axis(logits, first, axis=1) - _log_sum(others), others


def _with_odds(logits: Array, line: Array) -> Array:
    """Logits `[query, leaf]` with other log odds of the first answer.

    Args:
        logits: float64.
        line: factor and shift of the odds `[query, 2]`.
    """
    if logits.shape[1] < 2:
        return logits
    first, odds, others = odds_of_first(logits)
    restated = np.take_along_axis(logits, first, axis=1) + (line[:, :1] - 1) * odds + line[:, 1:]
    restated = np.maximum(restated, others.max(axis=1, keepdims=True))
    np.put_along_axis(others, first, restated, axis=1)
    return others


def _log_sum(logits: Array) -> Array:
    """Log of the sum of the exponentials of each row `[row, 1]`."""
    most = logits.max(axis=1, keepdims=True)
    total: Array = most + np.log(np.exp(logits - most).sum(axis=1, keepdims=True))
    return total


def _turned(points: Array) -> Array:
    """Float32 whose products with other points are minus the Lorentz ones."""
    turned = points.astype(np.float32)  # a copy
    turned[..., 1:] *= -1
    return turned
