import pytest
from hypothesis import given
from hypothesis import strategies as st

from naics_job.data.sentences import split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        ("One.", ["One."]),
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Made in the U.S. Most are small.", ["Made in the U.S. Most are small."]),
        ("Grain (e.g. Rye) is here. It grows.", ["Grain (e.g. Rye) is here.", "It grows."]),
        ("It ends (here.) Then more.", ["It ends (here.)", "Then more."]),
        ("1. Logging is out. 2. Mining is out.", ["1. Logging is out.", "2. Mining is out."]),
        ("A share of 3.5 percent. Done.", ["A share of 3.5 percent.", "Done."]),
        ("Sold to J. Smith. Done.", ["Sold to J. Smith.", "Done."]),
    ],
)
def test_sentences_are_cut_at_their_ends_only(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


@given(st.text(alphabet="aA1.!?()\"' U", max_size=60))
def test_no_word_is_lost(text: str) -> None:
    assert " ".join(split_sentences(text)).split() == text.split()
