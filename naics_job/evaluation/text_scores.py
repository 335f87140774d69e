"""How well the code of a text is found: scores of the candidates against the true code.

A true code may be of any level; an answer is right if it is the true code or lies below it. As in
`evaluation.search`, candidates of equal score share their places evenly, so that every number is
its expectation over the orders of the ties.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from naics_job.errors import DataError
from naics_job.evaluation.distances import FloatArray
from naics_job.taxonomy.tree import BoolArray, IntArray, Taxonomy

Block: TypeAlias = FloatArray | Tensor  # scores [query, candidate], higher is better

DEPTHS = (1, 5, 10)
PLACE_METRICS = (*(f"top{depth}" for depth in DEPTHS), "mrr")
BLOCK_QUERIES = 1024
BINS = 15


def score_texts(
    blocks: Block | Iterable[Block],
    candidates: IntArray,
    truth: IntArray,
    taxonomy: Taxonomy,
    weights: FloatArray | None = None,
) -> dict[str, float]:
    """`top1`, `top5`, `top10`, `mrr` and `level_2` to `level_6`; empty without a query.

    `level_k` is how often the first answer, cut to k digits, is the true code cut to k digits,
    over the queries whose true code has at least k digits; without any it is left out. Of several
    right candidates, as below a true code of four digits, the best placed one counts. A true code
    without a candidate is never found.

    Args:
        blocks: scores `[query, candidate]`, whole or in blocks of queries, one after the other.
        candidates: positions of the codes that may be answers, ascending.
        truth: position of each query's code, `[query]`.
        taxonomy: the codes.
        weights: how much each query counts, `[query]`; None: all the same.

    Raises:
        DataError: a score is NaN.
    """
    named = ({"": block} for block in _whole_or_each(blocks))
    return score_systems(named, candidates, truth, taxonomy, weights).get("", {})


def score_systems(
    blocks: Iterable[Mapping[str, Block]],
    candidates: IntArray,
    truth: IntArray,
    taxonomy: Taxonomy,
    weights: FloatArray | None = None,
) -> dict[str, dict[str, float]]:
    """The metrics of `score_texts` of several systems at once, by their names.

    Args:
        blocks: for the next queries the scores of each system.
        candidates: as in `score_texts`, and so are the others.
        truth: as above.
        taxonomy: as above.
        weights: as above.
    """
    spans = _right_spans(candidates, truth, taxonomy)
    outcomes: dict[str, list[FloatArray]] = {}  # per block [query, metric]
    for block in blocks:
        for name, scores in block.items():
            parts = outcomes.setdefault(name, [])
            for part in _parts(scores):
                start = sum(map(len, parts))
                fits = start + len(part) <= len(truth) and part.shape[1] == len(candidates)
                assert fits, f"scores {part.shape} from query {start} on do not fit"
                parts.append(_outcomes(part, spans.rows(start, start + len(part))))
    names = (*PLACE_METRICS, *(f"level_{depth + 1}" for depth in range(1, taxonomy.max_depth + 1)))
    shares = np.ones(len(truth)) if weights is None else np.asarray(weights, dtype=np.float64)
    means = {}
    for system, parts in outcomes.items():
        if not parts:
            continue
        values = np.concatenate(parts)  # [query, metric]
        assert len(values) == len(truth), f"{len(values)} rows of scores, {len(truth)} codes"
        means[system] = _means(names, values, shares)
    return means


def is_right(answers: IntArray, truth: IntArray, taxonomy: Taxonomy) -> BoolArray:
    """Whether each of `answers` `[query]` is the code of `truth` `[query]` or lies below it."""
    right: BoolArray = (answers >= truth) & (answers < taxonomy.subtree_end[truth])
    return right


def calibration_error(probability: FloatArray, correct: BoolArray, bins: int = BINS) -> float:
    """Expected calibration error: how far stated probabilities are from the shares that are right.

    Guo et al. 2017, arXiv:1706.04599. Differs from the paper: each bin holds as many queries as any
    other, not as wide a range of probabilities. Queries of the same probability share what is right
    among them, so that their order does not matter.

    Args:
        probability: of the first answer to be right, `[query]`, at least one.
        correct: whether it is, `[query]`.
        bins: at most as many as there are queries are used.
    """
    values, inverse, counts = np.unique(probability, return_inverse=True, return_counts=True)
    share = np.bincount(inverse, weights=correct.astype(np.float64)) / counts  # [value]
    gap = np.repeat(share - values.astype(np.float64), counts)  # [query], by probability
    pieces = np.array_split(gap, min(bins, len(gap)))
    return float(sum(abs(piece.sum()) for piece in pieces) / len(gap))


def standard_error(share: float, num_rows: int) -> float:
    """Standard error of a share of right answers over `num_rows` independent queries."""
    return math.sqrt(max(0.0, share * (1 - share)) / num_rows)


@dataclass(frozen=True)
class _Spans:
    """Columns of the right candidates: those of one code and all below it stand together.

    Attributes:
        start: `[query, depth]`; column 0 is for the true code itself, column j for its ancestor at
            depth j.
        end: `[query, depth]`, one past the last.
        counted: `[query, depth]`, whether the true code has an ancestor of that depth.
    """

    start: IntArray
    end: IntArray
    counted: BoolArray

    def rows(self, start: int, end: int) -> "_Spans":
        """Those of some queries."""
        return _Spans(self.start[start:end], self.end[start:end], self.counted[start:end])


def _right_spans(candidates: IntArray, truth: IntArray, taxonomy: Taxonomy) -> _Spans:
    assert (np.diff(candidates) > 0).all(), "candidates are not ascending"
    codes = taxonomy.ancestors[truth].astype(np.int64)  # [query, depth]
    codes[:, 0] = truth
    counted = codes >= 0
    start = np.searchsorted(candidates, codes)
    end = np.searchsorted(candidates, taxonomy.subtree_end[codes])
    return _Spans(start, end, counted)


def _whole_or_each(blocks: Block | Iterable[Block]) -> Iterator[Block]:
    if isinstance(blocks, Tensor | np.ndarray):
        yield blocks
    else:
        yield from blocks


def _parts(scores: Block) -> Iterator[npt.NDArray[np.float32]]:
    for start in range(0, len(scores), BLOCK_QUERIES):
        part = scores[start : start + BLOCK_QUERIES]
        tensor = part if isinstance(part, Tensor) else torch.from_numpy(np.ascontiguousarray(part))
        values: npt.NDArray[np.float32] = tensor.detach().float().cpu().numpy()
        if np.isnan(values).any():
            raise DataError(
                "the scores of some texts are not numbers",
                "training has diverged: lower training.learning_rate or resume an older checkpoint",
            )
        yield values


def _outcomes(scores: npt.NDArray[np.float32], spans: _Spans) -> FloatArray:
    """`[query, metric]` float64: `PLACE_METRICS`, then each depth, NaN where it is not counted."""
    column = np.arange(scores.shape[1])
    right = (column >= spans.start[:, :1]) & (column < spans.end[:, :1])  # [query, candidate]
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)  # [query, 1]
    level = scores == best
    places = _place_scores(
        (scores > best).sum(axis=1), level.sum(axis=1), (level & right).sum(axis=1)
    )
    first = scores == scores.max(axis=1, keepdims=True)
    before = np.zeros((len(scores), scores.shape[1] + 1), dtype=np.int64)
    np.cumsum(first, axis=1, out=before[:, 1:])  # first answers in the columns before
    within = np.take_along_axis(before, spans.end, 1) - np.take_along_axis(before, spans.start, 1)
    agreed = np.where(spans.counted, within / before[:, -1:], np.nan)[:, 1:]
    return np.concatenate([places, agreed], axis=1)


def _place_scores(better: IntArray, tied: IntArray, right: IntArray) -> FloatArray:
    """`PLACE_METRICS` `[query, metric]`; each kind of tie is worked out once."""
    kinds, kind = np.unique(np.stack([better, tied, right], 1), axis=0, return_inverse=True)
    table = np.array([_expected(*each) for each in kinds.tolist()])
    chosen: FloatArray = table[kind.reshape(-1)]
    return chosen


def _expected(better: int, tied: int, right: int) -> list[float]:
    """`PLACE_METRICS` of the first right one among `tied` candidates in any order, each as likely.

    Args:
        better: candidates before all of these.
        tied: candidates of the best score that a right one has.
        right: how many of them are right; 0: nothing is ever found.
    """
    if right == 0:
        return [0.0] * len(PLACE_METRICS)
    wrong = np.arange(tied - right)  # of these so many can stand first
    all_wrong = np.cumprod(np.append(1.0, (tied - right - wrong) / (tied - wrong)))
    chance = all_wrong - np.append(all_wrong[1:], 0.0)  # of the places better + 1, better + 2, ...
    place = better + 1 + np.arange(len(chance))
    shares = [float(chance[place <= depth].sum()) for depth in DEPTHS]
    return [*shares, float((chance / place).sum())]


def _means(names: Iterable[str], values: FloatArray, weights: FloatArray) -> dict[str, float]:
    means = {}
    for name, column in zip(names, values.T, strict=True):
        counted = ~np.isnan(column)
        if counted.any():
            means[name] = float(np.average(column[counted], weights=weights[counted]))
    return means
