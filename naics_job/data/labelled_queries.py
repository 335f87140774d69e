"""Texts with a known code, taken from the channels: queries to train search on.

An exclusion says what belongs to another code: "Growing red ones--are classified in Industry
111120, Red Plants." is a text about 111120, written for 111110. A sentence of a description is a
text about its own code.
"""

import re
from dataclasses import dataclass

from naics_job.data.channels import NAMED_CODE
from naics_job.taxonomy.tree import Taxonomy

POINTER = re.compile(
    r"(?:\b(?:that|which)\s+)?(?:\b(?:can|could|may|might|should|would)\s+)?"
    r"(?:\b(?:is|are|be)\s+)?(?:\b(?:also|generally|instead|separately)\s+)?"
    r"\b(?:classified|included)\b|--\s*see\b|\(see\b",
    re.IGNORECASE,
)
OPENING = re.compile(
    r"^(?:(?:also|for example|however|similarly|likewise),\s+)?"
    r"(?:(?:also\s+)?excluded from (?:this|the)\b.{0,80}?\b(?:sub)?sector (?:is|are)\s+)?",
    re.IGNORECASE,
)
UNFINISHED = re.compile(r"^(?:these|such)\b|\b(?:they|it|and)$", re.IGNORECASE)
AROUND = " \t,;:.-\u2013\u2014("
MIN_REFERENCE_WORDS = 2
MIN_SENTENCE_WORDS = 4
NO_SENTENCE = re.compile(r":$|\billustrative examples\b", re.IGNORECASE)


@dataclass(frozen=True)
class CrossReference:
    """An exclusion as a text about the code that it names.

    Attributes:
        text: the sentence without the part that points at the code.
        excluder: position of the code that has the exclusion.
        answer: position of the code that it names, of any level.
        segment: number of the sentence among the exclusions of the excluder.
    """

    text: str
    excluder: int
    answer: int
    segment: int


def cross_references(taxonomy: Taxonomy, texts: dict[str, list[list[str]]]) -> list[CrossReference]:
    """The exclusions that name exactly one other code, not above or below their own.

    Left out as well: sentences where nothing of two words is left, and those that speak of what a
    sentence before them has described ("These establishments are ...").
    """
    position_of = {code: row for row, code in enumerate(taxonomy.codes)}
    found: list[CrossReference] = []
    for excluder, sentences in enumerate(texts["excluded"]):
        for segment, sentence in enumerate(sentences):
            names = [name for name in NAMED_CODE.finditer(sentence) if name[0] in position_of]
            others = {position_of[name[0]] for name in names} - {excluder}
            if len(others) != 1 or _lineal(taxonomy, excluder, answer := others.pop()):
                continue
            place = next(n.start() for n in names if position_of[n[0]] == answer)
            text = _before_pointer(sentence[:place])
            if text is not None:
                found.append(CrossReference(text, excluder, answer, segment))
    return found


def description_sentences(texts: dict[str, list[list[str]]]) -> list[tuple[int, int, str]]:
    """Position, number in its description and text of each sentence worth asking.

    Those of four words or more that do not only announce a list.
    """
    return [
        (position, number, sentence)
        for position, sentences in enumerate(texts["description"])
        for number, sentence in enumerate(sentences)
        if len(sentence.split()) >= MIN_SENTENCE_WORDS and not NO_SENTENCE.search(sentence)
    ]


def _lineal(taxonomy: Taxonomy, one: int, other: int) -> bool:
    first, second = sorted((one, other))
    return second < int(taxonomy.subtree_end[first])


def _before_pointer(text: str) -> str | None:
    """What stands before the last pointer of `text`; None if that is no text of its own."""
    pointers = list(POINTER.finditer(text))
    if not pointers:
        return None
    kept = OPENING.sub("", text[: pointers[-1].start()]).strip(AROUND)
    if len(kept.split()) < MIN_REFERENCE_WORDS or UNFINISHED.search(kept):
        return None
    return kept
