from pathlib import Path

import pytest

from naics_job.data.query_tokens import QUERY_CHANNELS, QueryTokenizer
from naics_job.data.tokens import parse_tokenizer
from naics_job.errors import DataError

CLS, SEP, UNKNOWN = 2, 3, 1
LIMITS = {"title": 5, "description": 6, "examples": 8, "excluded": 9}


@pytest.fixture
def tokenize(tiny_folder: Path) -> QueryTokenizer:
    content = (tiny_folder / "tokenizer.json").read_bytes()
    return QueryTokenizer(parse_tokenizer(content, "tokenizer.json", ""), LIMITS)


def test_texts_are_cut_to_the_length_of_each_channel(tokenize: QueryTokenizer) -> None:
    found = tokenize(["w0 w1", " ".join(f"w{number}" for number in range(20)), "nowhere w3"])
    assert tuple(found) == QUERY_CHANNELS
    for channel, ragged in found.items():
        room = LIMITS[channel] - 2
        assert ragged.lengths.tolist() == [4, LIMITS[channel], 4]
        whole = [CLS, 4, 5, SEP, CLS, *range(4, 4 + room), SEP, CLS, UNKNOWN, 7, SEP]
        assert ragged.ids.tolist() == whole


def test_a_text_without_a_word_is_a_missing_channel(tokenize: QueryTokenizer) -> None:
    for ragged in tokenize(["", "w1", "  \t"]).values():
        assert ragged.lengths.tolist() == [0, 3, 0]


@pytest.mark.parametrize("content", [b"", b"[]", b'{"model"'])
def test_what_is_no_tokenizer_is_refused(content: bytes) -> None:
    with pytest.raises(DataError, match="here"):
        parse_tokenizer(content, "here.json", "hint")
