"""Simple ways to find the code of a text, for a trained model to be measured against.

Each gives scores `[query, code]`, higher is better, for `evaluation.text_scores`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from naics_job.evaluation.distances import FloatArray

BLOCK_QUERIES = 256
FROZEN = ("frozen_mean", "frozen_nearest_item", "frozen_sum")


@dataclass(frozen=True)
class FrozenCodes:
    """Features that the untrained encoder gives the texts of the codes; of any length.

    Attributes:
        title: `[code, hidden]`.
        has_title: `[code]` bool.
        description: `[code, hidden]`.
        has_description: `[code]` bool.
        items: of the index items, code by code, `[item, hidden]`.
        item_start: `[code + 1]` int64, the first item of each code.
    """

    title: Tensor
    has_title: Tensor
    description: Tensor
    has_description: Tensor
    items: Tensor
    item_start: Tensor


def code_documents(
    titles: Sequence[str], descriptions: Sequence[str], items: Sequence[Sequence[str]]
) -> list[str]:
    """Everything that is written about each code, as one text for `tfidf_scores`; all `[code]`."""
    rows = zip(titles, descriptions, items, strict=True)
    return ["\n".join([title, description, *index]) for title, description, index in rows]


def tfidf_scores(
    texts: Sequence[str], documents: Sequence[str], block_queries: int = BLOCK_QUERIES
) -> Iterator[FloatArray]:
    """Cosine of tf-idf weighted words and pairs of words, in blocks `[query, code]` float32.

    The weights come from the documents alone. A text without any of their words scores 0 for all.

    Args:
        texts: the queries.
        documents: one for each code.
        block_queries: queries at a time.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer  # slow; training starts without it

    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, stop_words="english", dtype=np.float64
    )
    codes = vectorizer.fit_transform(documents).T.tocsr()  # [word, code], columns of length 1
    for start in range(0, len(texts), block_queries):
        queries = vectorizer.transform(texts[start : start + block_queries])  # [query, word]
        yield (queries @ codes).toarray().astype(np.float32)


def frozen_scores(
    queries: Tensor, codes: FrozenCodes, block_queries: int = BLOCK_QUERIES
) -> Iterator[dict[str, Tensor]]:
    """Scores by the untrained encoder, in blocks `[query, code]` float32, by the names in `FROZEN`.

    - `frozen_mean`: cosine with the mean of a code's title, description and mean item.
    - `frozen_nearest_item`: cosine with that item of the code which is nearest, or with its title
      if it has no items.
    - `frozen_sum`: both added up.

    Computed in float64 and rounded, so that codes with the same texts tie.

    Args:
        queries: features of the queries, `[query, hidden]`; of any length.
        codes: on the same device.
        block_queries: queries at a time.
    """
    title = _directions(codes.title, codes.has_title).T
    means, items = mean_directions(codes).T, normalize(codes.items.double(), dim=1).T
    counts = codes.item_start.diff()
    owner = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)  # [item]
    for start in range(0, len(queries), block_queries):
        part = queries[start : start + block_queries].double()
        directions = normalize(part, dim=1)  # [query, hidden]
        mean, nearest = directions @ means, directions @ title  # [query, code]
        rows = owner.expand(len(part), -1)
        nearest = nearest.masked_fill(counts > 0, -torch.inf)
        nearest = nearest.scatter_reduce(1, rows, directions @ items, "amax")
        each = (mean, nearest, mean + nearest)
        yield {name: scores.float() for name, scores in zip(FROZEN, each, strict=True)}


def mean_directions(codes: FrozenCodes) -> Tensor:
    """`[code, hidden]` float64 of length 1: the mean of a code's title, description and mean item.

    What a code does not have is left out; without anything it is zero.
    """
    items = normalize(codes.items.double(), dim=1)
    counts = codes.item_start.diff()
    owner = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)  # [item]
    sums = items.new_zeros((len(counts), items.shape[1])).index_add(0, owner, items)
    parts = (
        _directions(codes.title, codes.has_title),
        _directions(codes.description, codes.has_description),
        normalize(sums, dim=1),
    )
    return normalize(torch.stack(parts).sum(0), dim=1)


def _directions(features: Tensor, present: Tensor) -> Tensor:
    """`[code, hidden]` float64 of length 1, zero where not present."""
    return normalize(features.double(), dim=1).masked_fill(~present[:, None], 0.0)
