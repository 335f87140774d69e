"""The labelled texts of the codes: what a step may ask for its code, and what it does ask.

A text is a title, an index item, a sentence of a description, a cross-reference ("X is classified
in Y": X asks for Y) or one of the user's own. Its number is its place in `QueryPool`: first the
titles of all codes, then all index items, then the others, in the order of `extra`. A mixture joins
several texts of one code into one, as companies describe themselves. Sentences that any company may
say stand around some texts; they are numbered after all others and ask for nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from naics_job.config.data_schema import QueriesConfig
from naics_job.data.boilerplate import boilerplate
from naics_job.data.query_tokens import QueryTokenizer
from naics_job.data.sampler import FloatArray, RowDraws
from naics_job.data.segments import ranges
from naics_job.data.tokens import Ragged, TokenStore
from naics_job.taxonomy.tree import BoolArray, IntArray, Taxonomy

NO_TEXT = -1
SINGLE = ("title", "item", "sentence", "cross_reference", "labelled")
OWN = ("title", "item", "sentence")  # what a code says of itself; mixtures are made of it
MOST_SENTENCES = 4  # of boilerplate around one text


@dataclass(frozen=True)
class ExtraText:
    """A text that is no title and no index item."""

    text: str
    kind: str  # sentence | cross_reference | labelled
    answer: int  # position of the code it asks for
    excluder: int = NO_TEXT  # position of the code that says it is not its own
    weight: float = 1.0


@dataclass(frozen=True)
class QueryDraw:
    """The queries of one step; the same on every process.

    Attributes:
        texts: `[query, any]` int64 numbers of the texts that make up each query, -1 where none.
        answers: `[query]` int64 positions of the codes that are asked for.
        excluders: `[query]` int64 positions of codes known to be wrong, -1 where none.
    """

    texts: IntArray
    answers: IntArray
    excluders: IntArray

    def __len__(self) -> int:
        return len(self.answers)

    def only(self, rows: slice | BoolArray) -> "QueryDraw":
        """Some of the queries."""
        return QueryDraw(self.texts[rows], self.answers[rows], self.excluders[rows])


class QueryPool:
    """All texts by number, with their tokens and the codes they ask for.

    Args:
        taxonomy: the codes.
        store: tokens of titles and index items.
        extra: the other texts, the user's own at the end.
        tokenize: turns those into tokens as a search does.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        store: TokenStore,
        extra: Sequence[ExtraText],
        tokenize: QueryTokenizer,
    ) -> None:
        self.special, self.tokenize = store.special, tokenize
        self.max_tokens = store.max_tokens["description"]
        num_codes, items = len(taxonomy), store.segments["examples"].segment_start
        self.num_titles, self.num_items = num_codes, int(items[-1])
        asked = [text.text for text in extra if text.kind != "labelled"]
        self.asked_tokens = tokenize(asked)
        self.labelled_tokens = tokenize([text.text for text in extra[len(asked) :]])
        self.first_labelled = num_codes + self.num_items + len(asked)
        bare = (
            store.texts("title"),
            store.single_texts("examples"),
            self.asked_tokens,
            self.labelled_tokens,
        )
        lengths = np.concatenate([ragged.lengths for ragged in bare])
        self.first_boilerplate, self.lengths = len(lengths), lengths
        sentences = tokenize(boilerplate())
        self._ids = np.concatenate([*(ragged.ids for ragged in bare), sentences.ids])
        self._lengths = np.concatenate([lengths, sentences.lengths])
        self._start = np.cumsum(self._lengths) - self._lengths
        item_code = np.repeat(np.arange(num_codes), np.diff(items))
        self.answers = np.concatenate(
            [np.arange(num_codes), item_code, [text.answer for text in extra]]
        ).astype(np.int64)  # [text]
        self.kinds = np.concatenate(
            [
                np.full(num_codes, SINGLE.index("title")),
                np.full(self.num_items, SINGLE.index("item")),
                [SINGLE.index(text.kind) for text in extra],
            ]
        ).astype(np.int64)
        none = np.full(num_codes + self.num_items, NO_TEXT)
        self.excluders = np.concatenate([none, [text.excluder for text in extra]]).astype(np.int64)
        ones = np.ones(num_codes + self.num_items)
        self.weights = np.concatenate([ones, [text.weight for text in extra]])
        self.leaves = np.zeros(num_codes, dtype=bool)
        self.leaves[taxonomy.six_digit()] = True

    def tokens(self, draw: QueryDraw) -> Ragged:
        """The tokens of a draw, special ones included; the texts of a mixture end in full stops."""
        rows, columns = np.nonzero(draw.texts >= 0)
        numbers = draw.texts[rows, columns]
        around = len(self.special.before) + len(self.special.after)
        length = self._lengths[numbers] - around
        ids = self._ids[ranges(self._start[numbers] + len(self.special.before), length)]
        owner = np.repeat(rows, length)
        joined = (draw.texts >= 0).sum(axis=1) > 1  # [query]
        ends = np.cumsum(length)[joined[rows]]
        stop = self.tokenize.full_stop
        ids = np.insert(ids, ends, stop)
        owner = np.insert(owner, ends, rows[joined[rows]])
        counts = np.bincount(owner, minlength=len(draw))
        return self.special.around(ids, np.cumsum(counts) - counts, counts, self.max_tokens)

    @property
    def num_boilerplate(self) -> int:
        """Sentences that any company could say."""
        return len(self._lengths) - self.first_boilerplate

    @property
    def known(self) -> IntArray:
        """Numbers of the texts that codes show one by one: index items, then the user's own."""
        items = np.arange(self.num_titles, self.num_titles + self.num_items)
        return np.concatenate([items, np.arange(self.first_labelled, len(self.answers))])

    def alone(self, numbers: IntArray) -> QueryDraw:
        """Texts by number, each a query of its own."""
        return QueryDraw(numbers[:, None], self.answers[numbers], self.excluders[numbers])

    @property
    def labelled_bare(self) -> Ragged:
        """The user's own texts without special tokens."""
        before = len(self.special.before)
        length = self.lengths[self.first_labelled :] - before - len(self.special.after)
        start = self._start[self.first_labelled : self.first_boilerplate] + before
        return Ragged(self._ids[ranges(start, length)], length)

    @property
    def labelled_code(self) -> IntArray:
        """Positions of the codes of the user's own texts, `[text]`."""
        return self.answers[self.first_labelled :]

    def is_labelled(self, draw: QueryDraw) -> BoolArray:
        """Which queries are the user's own texts, `[query]`."""
        own = (draw.texts >= self.first_labelled) & (draw.texts < self.first_boilerplate)
        return np.asarray(own.any(axis=1))

    def hidden(self, draw: QueryDraw) -> tuple[BoolArray, BoolArray]:
        """What a draw asks and codes must not show: index items `[item]`, the user's `[text]`."""
        asked = np.isin(self.known, draw.texts)
        return asked[: self.num_items], asked[self.num_items :]


class QuerySampler:
    """Draws queries from the texts of a pool that may be asked.

    Args:
        pool: the texts.
        usable: which of them may be asked, `[text]` bool.
        config: how often each kind is drawn.
    """

    def __init__(self, pool: QueryPool, usable: BoolArray, config: QueriesConfig) -> None:
        self.pool, self.config = pool, config
        usable = usable & (pool.lengths > 0)
        self._by_kind: dict[str, tuple[IntArray, FloatArray]] = {}
        for number, kind in enumerate(SINGLE):
            rows = np.flatnonzero(usable & (pool.kinds == number))
            if len(rows) and getattr(config, kind) > 0:
                self._by_kind[kind] = rows, np.cumsum(pool.weights[rows])
        self._own_kinds = [SINGLE.index(kind) for kind in OWN]
        own = np.isin(pool.kinds, self._own_kinds)
        rows = np.flatnonzero(usable & own & pool.leaves[pool.answers])
        self._mixed = rows[np.argsort(pool.answers[rows], kind="stable")]
        counts = np.bincount(pool.answers[self._mixed], minlength=pool.num_titles)
        self._mixed_start = np.cumsum(counts) - counts
        self._mixed_count = counts
        self._mixed_codes = np.flatnonzero(counts > 1)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to ask."""
        return not self._shares()[0]

    def _shares(self) -> tuple[list[str], FloatArray]:
        """The kinds there are to draw, and the cumulative share of each."""
        names = list(self._by_kind)
        if len(self._mixed_codes) and self.config.mixture > 0:
            names.append("mixture")
        shares = np.cumsum([getattr(self.config, name) for name in names])
        return names, shares / shares[-1] if len(shares) else shares

    def draw(self, draws: RowDraws) -> QueryDraw:
        """The queries of the rows of `draws`, a function of those alone; none from nothing."""
        most = max(1, self.config.mixture_texts)
        uniform = draws.uniform("queries", 3 + most)  # [query, any]
        texts = np.full((draws.num_rows, most), NO_TEXT, dtype=np.int64)
        names, shares = self._shares()
        if not names:
            none = np.empty(0, dtype=np.int64)
            return QueryDraw(texts[:0], none, none)
        kind = np.minimum(np.searchsorted(shares, uniform[:, 0], side="right"), len(names) - 1)
        for number, name in enumerate(names):
            rows = np.flatnonzero(kind == number)
            if name == "mixture":
                texts[rows] = self._mixtures(uniform[rows, 1:], most)
            else:
                numbers, cumulative = self._by_kind[name]
                target = uniform[rows, 1] * cumulative[-1]
                at = np.searchsorted(cumulative, target, side="right").clip(0, len(numbers) - 1)
                texts[rows, 0] = numbers[at]
        first = texts[:, 0]
        whole = self._among_boilerplate(texts, draws) if self.config.boilerplate else texts
        return QueryDraw(whole, self.pool.answers[first], self.pool.excluders[first])

    def _among_boilerplate(self, texts: IntArray, draws: RowDraws) -> IntArray:
        """`texts`, a share of them with sentences that say nothing of the code.

        Each of that share has one to `MOST_SENTENCES`; the order is random, except that of the
        texts. Cross-references and the user's own stay alone.
        """
        most, first = texts.shape[1], self.pool.first_boilerplate
        uniform = draws.uniform("boilerplate", 2 + most + 2 * MOST_SENTENCES)  # [query, any]
        own = np.isin(self.pool.kinds[texts[:, 0]], self._own_kinds)
        wanted = 1 + (uniform[:, 1] * MOST_SENTENCES).astype(np.int64)
        wanted = np.where(own & (uniform[:, 0] < self.config.boilerplate), wanted, 0)
        number, place = np.split(uniform[:, 2 + most :], 2, axis=1)
        sentences = first + (number * self.pool.num_boilerplate).astype(np.int64)
        sentences[np.arange(MOST_SENTENCES) >= wanted[:, None]] = NO_TEXT
        both = np.concatenate([texts, sentences], axis=1)
        places = np.concatenate([np.sort(uniform[:, 2 : 2 + most], axis=1), place], axis=1)
        order = np.where(both >= 0, places, np.inf).argsort(axis=1, kind="stable")
        found: IntArray = np.take_along_axis(both, order, axis=1)
        return found

    def _mixtures(self, uniform: FloatArray, most: int) -> IntArray:
        """Two to `most` different texts of one code each: `[query, most]`, -1 at the end."""
        code = self._mixed_codes[(uniform[:, 0] * len(self._mixed_codes)).astype(np.int64)]
        count, start = self._mixed_count[code], self._mixed_start[code]
        wanted = 2 + (uniform[:, 1] * max(1, most - 1)).astype(np.int64)
        wanted = np.minimum(np.minimum(wanted, count), most)
        texts = np.full((len(code), most), NO_TEXT, dtype=np.int64)
        for row in range(len(code)):
            texts[row, : wanted[row]] = self._mixed[
                start[row] + _distinct(uniform[row, 2:], int(count[row]), int(wanted[row]))
            ]
        return texts


def _distinct(uniform: FloatArray, count: int, wanted: int) -> IntArray:
    """`wanted` different numbers below `count`, from as many uniform ones (Floyd 1987)."""
    chosen: list[int] = []
    for place, value in zip(range(count - wanted, count), uniform, strict=False):
        number = int(value * (place + 1))
        chosen.append(place if number in chosen else number)
    return np.array(chosen, dtype=np.int64)
