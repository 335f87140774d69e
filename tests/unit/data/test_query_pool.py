"""Which texts a step asks, how often, their tokens, and what codes must not show meanwhile."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from naics_job.config.data_schema import QueriesConfig
from naics_job.data.boilerplate import boilerplate
from naics_job.data.contracts import CHANNELS
from naics_job.data.query_pool import OWN, SINGLE, ExtraText, QueryDraw, QueryPool, QuerySampler
from naics_job.data.query_tokens import QueryTokenizer
from naics_job.data.sampler import RowDraws
from naics_job.data.segments import Segments
from naics_job.data.tokens import Ragged, TokenStore
from naics_job.taxonomy.tree import BoolArray, Taxonomy

CODES = ("11", "111", "1111", "11111", "111110", "11112", "111120", "111121")
TREE = Taxonomy.from_codes(CODES, CODES)
LEAF, BARE, NEIGHBOUR = (TREE.position(code) for code in ("111110", "111120", "111121"))
TITLES = [f"w{position}" for position in range(8)]
ITEMS: list[list[str]] = [
    ["w10"],
    [],
    [],
    [],
    ["w11", "w12 w13", "w14", "w15"],
    [],
    [],
    ["w16 w17"],
]
EXTRA = [
    ExtraText("w20 w21", "sentence", LEAF),
    ExtraText("w22 w23 w24", "cross_reference", NEIGHBOUR, excluder=LEAF),
    ExtraText("   ", "sentence", LEAF),  # no word
    ExtraText("w30", "labelled", LEAF, weight=1.0),
    ExtraText("w31", "labelled", BARE, weight=3.0),
]
NUM_ITEMS = 6
FIRST_EXTRA = 8 + NUM_ITEMS
FIRST_LABELLED = FIRST_EXTRA + 3
LIMIT = 9  # tokens of a description
CLS, SEP, STOP = 1, 2, 3
QUERIES = QueriesConfig(
    per_anchor=4,
    title=0.05,
    item=0.3,
    sentence=0.1,
    cross_reference=0.1,
    mixture=0.45,
    labelled=1.0,
    mixture_texts=4,
    boilerplate=0.0,
)


def word_tokenizer() -> Tokenizer:
    names = ["[UNK]", "[CLS]", "[SEP]", ".", *(f"w{number}" for number in range(40))]
    tokenizer = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", SEP), ("[CLS]", CLS))
    return tokenizer


def token_store() -> TokenStore:
    tokenizer = word_tokenizer()

    def segments(texts: list[list[str]]) -> Segments:
        lists = [tokenizer.encode(text, add_special_tokens=False).ids for c in texts for text in c]
        return Segments(
            ids=np.array([token for row in lists for token in row], dtype=np.int32),
            token_start=np.cumsum([0, *map(len, lists)]),
            segment_start=np.cumsum([0, *map(len, texts)]),
        )

    none: list[list[str]] = [[] for _ in CODES]
    channels = ([[title] for title in TITLES], none, ITEMS, none)
    found = {name: segments(texts) for name, texts in zip(CHANNELS, channels, strict=True)}
    limits = {"title": 4, "description": LIMIT, "examples": 6, "excluded": 6}
    unused: Any = None  # the cache of the node
    return TokenStore(found, tokenizer, limits, "0" * 64, unused)


@pytest.fixture(scope="module")
def pool() -> QueryPool:
    return QueryPool(TREE, token_store(), EXTRA, QueryTokenizer(word_tokenizer(), LIMIT))


def everything(pool: QueryPool) -> BoolArray:
    return np.ones(len(pool.answers), dtype=bool)


def sampler(pool: QueryPool, usable: BoolArray | None = None, **changes: Any) -> QuerySampler:
    config = replace(QUERIES, **changes)
    return QuerySampler(pool, everything(pool) if usable is None else usable, config)


def only(kind: str) -> dict[str, float]:
    return {name: float(name == kind) for name in (*SINGLE, "mixture")}


def draws(num_rows: int = 4000, start: int = 0, epoch: int = 0, index: int = 0) -> RowDraws:
    return RowDraws(7, epoch, index, start, num_rows)


def rows(ragged: Ragged) -> list[list[int]]:
    return [part.tolist() for part in np.split(ragged.ids, np.cumsum(ragged.lengths)[:-1])]


def words(*numbers: int) -> list[int]:
    return [4 + number for number in numbers]


def test_texts_are_numbered_titles_first_then_items_then_the_others(pool: QueryPool) -> None:
    assert (pool.num_titles, pool.num_items, pool.first_labelled) == (8, 6, FIRST_LABELLED)
    items = [0, LEAF, LEAF, LEAF, LEAF, NEIGHBOUR]
    assert pool.answers.tolist() == [*range(8), *items, LEAF, NEIGHBOUR, LEAF, LEAF, BARE]
    assert pool.excluders[FIRST_EXTRA:].tolist() == [-1, LEAF, -1, -1, -1]
    assert (pool.excluders[:FIRST_EXTRA] == -1).all()
    assert pool.labelled_code.tolist() == [LEAF, BARE]
    assert pool.labelled_bare.ids.tolist() == words(30, 31)
    assert pool.labelled_bare.lengths.tolist() == [1, 1]
    assert [SINGLE[kind] for kind in pool.kinds[FIRST_EXTRA:]] == [each.kind for each in EXTRA]


def test_a_draw_is_a_function_of_its_row_alone(pool: QueryPool) -> None:
    asked = sampler(pool)
    whole = asked.draw(draws(60))
    sampler(pool).draw(draws(13, epoch=3))  # what was drawn before does not matter
    for start, end in ((0, 60), (17, 40), (59, 60)):
        part = asked.draw(draws(end - start, start=start))
        np.testing.assert_array_equal(part.texts, whole.texts[start:end])
        np.testing.assert_array_equal(part.answers, whole.answers[start:end])
        np.testing.assert_array_equal(part.excluders, whole.excluders[start:end])
    for other in (draws(60, epoch=1), draws(60, index=1), replace(draws(60), seed=8)):
        assert (asked.draw(other).texts != whole.texts).any()


def test_kinds_are_drawn_by_their_shares(pool: QueryPool) -> None:
    found = sampler(pool, labelled=0.0).draw(draws(8000))
    mixed = found.texts[:, 1] >= 0
    kinds = pool.kinds[found.texts[:, 0]]
    assert mixed.mean() == pytest.approx(0.45, abs=0.02)
    for name, share in (("title", 0.05), ("item", 0.3), ("sentence", 0.1), ("labelled", 0.0)):
        drawn = (~mixed & (kinds == SINGLE.index(name))).mean()
        assert drawn == pytest.approx(share, abs=0.02), name
    assert (found.excluders >= 0).mean() == pytest.approx(0.1, abs=0.02)  # cross-references
    half = sampler(pool).draw(draws(8000))  # all shares are of 2 then
    first = half.texts[:, 0]
    assert (first >= FIRST_LABELLED).mean() == pytest.approx(0.5, abs=0.02)


def test_texts_of_a_kind_are_drawn_alike_and_the_users_by_weight(pool: QueryPool) -> None:
    items = sampler(pool, **only("item")).draw(draws(6000)).texts
    share = np.bincount(items[:, 0], minlength=FIRST_EXTRA)[8:FIRST_EXTRA] / 6000
    assert np.abs(share - 1 / NUM_ITEMS).max() < 0.02
    assert (items[:, 1:] == -1).all()
    labelled = pool.kinds == SINGLE.index("labelled")
    own = sampler(pool, labelled).draw(draws(6000))
    assert set(own.texts[:, 0]) == {FIRST_LABELLED, FIRST_LABELLED + 1}
    assert (own.texts[:, 0] == FIRST_LABELLED + 1).mean() == pytest.approx(0.75, abs=0.02)
    assert (own.answers[own.texts[:, 0] == FIRST_LABELLED + 1] == BARE).all()


@pytest.mark.parametrize("most", [2, 4, 9])
def test_a_mixture_is_of_different_texts_of_one_leaf(pool: QueryPool, most: int) -> None:
    found = sampler(pool, mixture_texts=most, **only("mixture")).draw(draws(3000))
    sizes: Counter[tuple[int, int]] = Counter()
    allowed = [SINGLE.index(kind) for kind in OWN]
    for texts, answer in zip(found.texts.tolist(), found.answers.tolist(), strict=True):
        own = [number for number in texts if number >= 0]
        assert texts == own + [-1] * (most - len(own))
        assert len(set(own)) == len(own) >= 2
        assert set(pool.answers[own]) == {answer}
        assert set(pool.kinds[own]) <= set(allowed)
        assert FIRST_EXTRA + 2 not in own  # the one without a word
        sizes[answer, len(own)] += 1
    assert {answer for answer, _ in sizes} == {LEAF, NEIGHBOUR}  # of a title alone none is made
    assert {size for code, size in sizes if code == NEIGHBOUR} == {2}  # it has no more texts
    most_of_leaf = min(most, 6)  # its title, four items, a sentence
    assert {size for code, size in sizes if code == LEAF} == set(range(2, most_of_leaf + 1))
    drawn = np.bincount(found.texts[found.answers == LEAF].ravel() + 1, minlength=20)[1:]
    own = drawn[[LEAF, *range(9, 13), FIRST_EXTRA]]
    assert (np.abs(own / own.mean() - 1) < 0.15).all()  # each text of the code alike


def test_a_share_of_the_texts_stands_among_boilerplate(pool: QueryPool) -> None:
    bare = sampler(pool).draw(draws(6000))
    found = sampler(pool, boilerplate=0.6).draw(draws(6000))
    np.testing.assert_array_equal(found.answers, bare.answers)
    np.testing.assert_array_equal(found.excluders, bare.excluders)
    said = [[n for n in row if n >= pool.first_boilerplate] for row in found.texts.tolist()]
    for row, plain, sentences in zip(found.texts.tolist(), bare.texts.tolist(), said, strict=True):
        kept = [number for number in row if 0 <= number < pool.first_boilerplate]
        assert kept == [number for number in plain if number >= 0]  # all texts, in their order
        assert max(sentences, default=0) < pool.first_boilerplate + pool.num_boilerplate
    counts = np.array([len(sentences) for sentences in said])
    own = np.isin(pool.kinds[bare.texts[:, 0]], [SINGLE.index(kind) for kind in OWN])
    assert not counts[~own].any()
    for mixed in (True, False):
        some = counts[own & ((bare.texts[:, 1] >= 0) == mixed)]
        assert (some > 0).mean() == pytest.approx(0.6, abs=0.04)
    share = np.bincount(counts[counts > 0], minlength=5)[1:] / (counts > 0).sum()
    assert np.abs(share - 1 / 4).max() < 0.04  # one to four
    starts = found.texts[counts > 0, 0] >= pool.first_boilerplate
    assert 0.2 < starts.mean() < 0.8
    assert len({number for sentences in said for number in sentences}) > 1500


def test_boilerplate_is_read_and_hides_nothing(pool: QueryPool) -> None:
    sentences = boilerplate()
    assert len(sentences) == pool.num_boilerplate == 2000
    assert sentences == boilerplate()
    assert len(set(sentences)) > 1000
    texts = np.array([[10, pool.first_boilerplate + 1]])
    draw = QueryDraw(texts, np.array([LEAF]), np.array([-1]))
    whole = word_tokenizer().encode(sentences[1], add_special_tokens=False).ids
    (ids,) = rows(pool.tokens(draw))
    assert ids == [CLS, *words(12, 13), STOP, *whole[: LIMIT - 5], SEP]
    items, own = pool.hidden(draw)
    assert (items.sum(), own.sum()) == (1, 0)


def test_the_users_own_texts_are_told_apart(pool: QueryPool) -> None:
    texts = np.array(
        [[FIRST_LABELLED, -1], [10, 11], [pool.first_boilerplate, 4], [FIRST_LABELLED + 1, -1]]
    )
    draw = QueryDraw(texts, np.full(4, LEAF), np.full(4, -1))
    assert pool.is_labelled(draw).tolist() == [True, False, False, True]


def test_the_texts_of_a_mixture_end_in_full_stops(pool: QueryPool) -> None:
    texts = np.array([[4, 10, FIRST_EXTRA], [10, -1, -1], [0, -1, -1], [7, 13, -1]])
    found = pool.tokens(QueryDraw(texts, pool.answers[texts[:, 0]], np.full(4, -1)))
    assert rows(found) == [
        [CLS, *words(4), STOP, *words(12, 13), STOP, *words(20, 21), SEP],  # cut: no last stop
        [CLS, *words(12, 13), SEP],
        [CLS, *words(0), SEP],
        [CLS, *words(7), STOP, *words(16, 17), STOP, SEP],
    ]
    assert found.lengths.max() == LIMIT
    assert found.ids.dtype == np.int32


def test_every_single_text_has_its_own_tokens(pool: QueryPool) -> None:
    flat = [*TITLES, *(text for each in ITEMS for text in each), *(each.text for each in EXTRA)]
    keep = np.flatnonzero(pool.lengths > 0)
    assert keep.tolist() == [n for n, text in enumerate(flat) if text.strip()]
    found = pool.tokens(QueryDraw(keep[:, None], pool.answers[keep], pool.excluders[keep]))
    tokenizer = word_tokenizer()
    assert rows(found) == [tokenizer.encode(flat[number]).ids for number in keep]
    np.testing.assert_array_equal(found.lengths, pool.lengths[keep])


def test_what_is_asked_is_hidden(pool: QueryPool) -> None:
    texts = np.array(
        [[4, 10, 11], [13, -1, -1], [FIRST_LABELLED + 1, -1, -1], [FIRST_EXTRA, -1, -1]]
    )
    items, own = pool.hidden(QueryDraw(texts, pool.answers[texts[:, 0]], np.full(4, -1)))
    assert items.tolist() == [False, False, True, True, False, True]
    assert own.tolist() == [False, True]
    none = pool.hidden(QueryDraw(texts[:0], texts[:0, 0], texts[:0, 0]))
    assert not any(part.any() for part in none)


def test_unusable_texts_are_never_drawn(pool: QueryPool) -> None:
    usable = everything(pool)
    hidden = [LEAF, 9, 11, FIRST_EXTRA, FIRST_LABELLED]
    usable[hidden] = False
    found = sampler(pool, usable).draw(draws(4000))
    assert not np.isin(found.texts, [*hidden, FIRST_EXTRA + 2]).any()
    assert (found.texts[:, 1] >= 0).any()
    left = set(found.texts[found.texts >= 0].tolist())
    assert left == set(np.flatnonzero(usable & (pool.lengths > 0)))


def test_a_kind_without_texts_leaves_its_share_to_the_others(pool: QueryPool) -> None:
    usable = np.isin(pool.kinds, [SINGLE.index("title"), SINGLE.index("sentence")])
    found = sampler(pool, usable, title=0.2, sentence=0.2, mixture=0.0).draw(draws())
    assert (found.texts[:, 0] < 8).mean() == pytest.approx(0.5, abs=0.03)


def test_nothing_to_ask(pool: QueryPool) -> None:
    nothing = sampler(pool, ~everything(pool))
    assert nothing.empty
    assert not sampler(pool).empty
    assert len(nothing.draw(draws(5))) == 0
    assert len(sampler(pool).draw(draws(0))) == 0
    assert pool.tokens(nothing.draw(draws(5))).lengths.tolist() == []


def test_some_of_the_queries(pool: QueryPool) -> None:
    found = sampler(pool).draw(draws(10))
    part = found.only(np.arange(10) % 2 == 0)
    np.testing.assert_array_equal(part.texts, found.texts[::2])
    np.testing.assert_array_equal(part.answers, found.answers[::2])
    assert len(found.only(slice(3))) == 3
