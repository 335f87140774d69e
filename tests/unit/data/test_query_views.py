"""Which short texts a step asks: whose, which, how often, and the same on every process."""

import numpy as np
import pytest

from naics_job.data.query_tokens import QueryTokenizer
from naics_job.data.query_views import QueryViews
from naics_job.data.sampler import AnchorBatch
from naics_job.taxonomy.tree import Taxonomy

CODES = ("11", "111", "1111", "11111", "111110", "11112", "111120")
TITLES = tuple(f"title {code}" for code in CODES)
ITEMS = [f"item {number}" for number in range(9)]
TEXTS = {
    "title": [[title] for title in TITLES],
    "examples": [["a"], [], ["b"], [], ITEMS, ["c"], []],
}
LEAF, BARE = 4, 6  # with items, without


class Words(QueryTokenizer):
    """Keeps the texts it is asked for."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, texts):  # type: ignore[no-untyped-def]
        self.seen = list(texts)
        return {"title": None, "examples": None}


def views(num_items: int = 4) -> QueryViews:
    return QueryViews(Taxonomy.from_codes(CODES, TITLES), TEXTS, num_items, Words())


def batch(anchors: list[int], epoch: int = 0, start: int = 0) -> AnchorBatch:
    rows = np.array(anchors)
    none = np.zeros(len(rows), dtype=np.int64)
    return AnchorBatch(epoch, 0, start, rows, rows, none, none, none.astype(np.float32))


def test_six_digit_anchors_only() -> None:
    draw = views().draw(batch([0, LEAF, 3, BARE, 5]), seed=1)
    assert draw.codes.tolist() == [LEAF, BARE]
    assert draw.numbers[1] == 0  # nothing but its title
    assert len(views().draw(batch([0, 3]), seed=1)) == 0


@pytest.mark.parametrize("num_items", [0, 4, 100])
def test_every_text_within_the_limit_is_drawn_alike(num_items: int) -> None:
    asked = views(num_items)
    count = 1 + min(num_items, len(ITEMS))
    assert asked.counts[LEAF] == count
    draw = asked.draw(batch([LEAF] * 4000), seed=3)
    share = np.bincount(draw.numbers, minlength=count) / 4000
    assert len(share) == count
    assert np.abs(share - 1 / count).max() < 0.04


def test_items_do_not_depend_on_their_order_in_the_workbook() -> None:
    turned = {**TEXTS, "examples": [row[::-1] for row in TEXTS["examples"]]}
    other = QueryViews(Taxonomy.from_codes(CODES, TITLES), turned, 4, Words())
    assert other.texts == views().texts
    assert views().texts[LEAF][0] == TITLES[LEAF]
    assert len(set(views().texts[LEAF])) == 5


def test_a_row_draws_the_same_however_the_batch_is_cut() -> None:
    anchors = [LEAF, BARE, LEAF, LEAF, 0, LEAF]
    whole = views().draw(batch(anchors), seed=5)
    front, back = views().draw(batch(anchors[:3]), 5), views().draw(batch(anchors[3:], start=3), 5)
    assert whole.numbers.tolist() == [*front.numbers, *back.numbers]
    other_epoch = views(8).draw(batch([LEAF] * 50, epoch=1), seed=5)
    assert other_epoch.numbers.tolist() != views(8).draw(batch([LEAF] * 50), 5).numbers.tolist()


def test_items_are_encoded_code_by_code() -> None:
    asked = views()
    _, start = asked.items()
    assert start.tolist() == [0, 0, 0, 0, 0, 4, 4, 4]
    tokenizer = asked.tokenize
    assert isinstance(tokenizer, Words)
    assert tokenizer.seen == asked.texts[LEAF][1:]
    asked.tokens(asked.draw(batch([BARE]), 1))
    assert tokenizer.seen == [TITLES[BARE]]
