"""Short texts that training asks as search queries: titles and index items of six-digit codes."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from naics_job.data.query_tokens import QUERY_CHANNELS, QueryTokenizer
from naics_job.data.sampler import AnchorBatch
from naics_job.data.tokens import Ragged
from naics_job.taxonomy.tree import IntArray, Taxonomy

TITLE = 0  # number of the text that is the code's title; index items follow


@dataclass(frozen=True)
class QueryDraw:
    """The queries of one micro-batch; the same on every process."""

    codes: IntArray  # [query] int64 positions of the codes that are the right answers
    numbers: IntArray  # [query] int64, which of its code's texts each query is

    def __len__(self) -> int:
        return len(self.codes)

    def part(self, rows: slice) -> "QueryDraw":
        """Some of the queries."""
        return QueryDraw(self.codes[rows], self.numbers[rows])


class QueryViews:
    """The texts of every six-digit code, and which of them a step asks.

    A search is a few words, while a code is known by up to four long texts. So that both land in
    one place, every six-digit anchor of a step is also asked for by one of its own short texts: its
    title, or one of its first `num_items` index items in the order of a hash. Held-out index items
    are not among them, and a held-out code is no anchor.

    Args:
        taxonomy: the codes.
        texts: the segments of every channel, see `data.prepare.NaicsData`.
        num_items: most index items of a code; 0 leaves its title.
        tokenize: turns texts into tokens as a search does.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        texts: Mapping[str, Sequence[Sequence[str]]],
        num_items: int,
        tokenize: QueryTokenizer,
    ) -> None:
        self.tokenize = tokenize
        self.texts: list[list[str]] = [[] for _ in range(len(taxonomy))]  # [code], title first
        for position in taxonomy.six_digit().tolist():
            code, items = taxonomy.codes[position], texts["examples"][position]
            self.texts[position] = [*texts["title"][position], *_chosen(code, items, num_items)]
        self.counts = np.array([len(row) for row in self.texts], dtype=np.int64)  # [code]

    def draw(self, batch: AnchorBatch, seed: int) -> QueryDraw:
        """One text of each six-digit anchor; a function of the batch and the seed alone."""
        uniform = batch.draws(seed).uniform("query", 1)[:, 0]
        numbers = (uniform * self.counts[batch.anchors]).astype(np.int64)
        asked = self.counts[batch.anchors] > 0
        return QueryDraw(batch.anchors[asked], numbers[asked])

    def tokens(self, draw: QueryDraw) -> dict[str, Ragged]:
        """The tokens of a draw in every channel that a search reads a text as."""
        pairs = zip(draw.codes.tolist(), draw.numbers.tolist(), strict=True)
        return self.tokenize([self.texts[code][number] for code, number in pairs])

    def items(self) -> tuple[Ragged, IntArray]:
        """Every text but the titles, code by code, and the first row of each code `[code + 1]`."""
        rows = [text for texts in self.texts for text in texts[TITLE + 1 :]]
        start = np.concatenate(([0], np.cumsum(np.maximum(self.counts - 1, 0))))
        return self.tokenize(rows)[QUERY_CHANNELS[0]], start


def _chosen(code: str, items: Sequence[str], count: int) -> list[str]:
    """`count` of the items, always the same ones and not all from one end of the alphabet."""
    return sorted(items, key=lambda item: hashlib.sha256(f"{code}\n{item}".encode()).digest())[
        :count
    ]
