"""The tokens of free texts: cut, unknown words, no words."""

from pathlib import Path

import pytest

from naics_job.data.query_tokens import QueryTokenizer
from naics_job.data.tokens import parse_tokenizer
from naics_job.errors import DataError

CLS, SEP, UNKNOWN = 2, 3, 1
LIMIT = 6


@pytest.fixture
def tokenize(tiny_folder: Path) -> QueryTokenizer:
    content = (tiny_folder / "tokenizer.json").read_bytes()
    return QueryTokenizer(parse_tokenizer(content, "tokenizer.json", ""), LIMIT)


def test_texts_are_cut_to_the_limit(tokenize: QueryTokenizer) -> None:
    found = tokenize(["w0 w1", " ".join(f"w{number}" for number in range(20)), "nowhere w3"])
    assert found.lengths.tolist() == [4, LIMIT, 4]
    assert found.ids.tolist() == [CLS, 4, 5, SEP, CLS, 4, 5, 6, 7, SEP, CLS, UNKNOWN, 7, SEP]


def test_a_text_without_a_word_is_empty(tokenize: QueryTokenizer) -> None:
    assert tokenize(["", "w1", "  \t"]).lengths.tolist() == [0, 3, 0]
    assert tokenize([]).lengths.tolist() == []


def test_a_search_without_a_word_is_refused(tokenize: QueryTokenizer) -> None:
    assert tokenize.asked(["w1", "w2 w3"]).lengths.tolist() == [3, 4]
    with pytest.raises(DataError, match=r"'  ' has no word"):
        tokenize.asked(["w1", "  "])


@pytest.mark.parametrize("content", [b"", b"[]", b'{"model"'])
def test_what_is_no_tokenizer_is_refused(content: bytes) -> None:
    with pytest.raises(DataError, match="here"):
        parse_tokenizer(content, "here.json", "hint")
