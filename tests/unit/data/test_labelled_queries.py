"""Texts with a known code: exclusions that name one other code, sentences of descriptions."""

import numpy as np
import pytest

from naics_job.data.labelled_queries import (
    CrossReference,
    cross_references,
    description_sentences,
)
from naics_job.taxonomy.tree import Taxonomy

CODES = ["11", "111", "1111", "11111", "111110", "11112", "111120", "21", "211"]
PLANTS = Taxonomy.from_codes(CODES, [f"title {code}" for code in CODES])
BLUE, RED = PLANTS.position("111110"), PLANTS.position("111120")


def references(*sentences: str, code: str = "111110") -> list[CrossReference]:
    excluded: list[list[str]] = [[] for _ in CODES]
    excluded[PLANTS.position(code)] = list(sentences)
    return cross_references(PLANTS, {"excluded": excluded})


@pytest.mark.parametrize(
    ("sentence", "text"),
    [
        (
            "Growing red ones--are classified in U.S. Industry 111120, Red Plants;",
            "Growing red ones",
        ),
        (
            "Growers (except of blue ones), are classified in Industry 111120, Red; and",
            "Growers (except of blue ones)",
        ),
        ("Growing ones that are classified in Industry 111120.", "Growing ones"),
        ("Growing red ones--see Industry 111120, Red Plants.", "Growing red ones"),
        ("Growing red ones \u2014 is classified elsewhere in Industry 111120.", "Growing red ones"),
        (
            "Also excluded from this sector are growers of red included in Industry 111120.",
            "growers of red",
        ),
        ("For example, growing red ones may be classified in 111120.", "growing red ones"),
        (
            "Growing what is classified as red (not in Industry 111110)--is included in 111120.",
            "Growing what is classified as red (not in Industry 111110)",
        ),
    ],
)
def test_the_pointer_is_cut_away(sentence: str, text: str) -> None:
    assert references("Nothing.", sentence) == [
        CrossReference(text=text, excluder=BLUE, answer=RED, segment=1)
    ]


@pytest.mark.parametrize(
    "sentence",
    [
        "Growing grey ones--are classified elsewhere.",
        "Growing things--are classified in Industry 111120, Red, or Subsector 211, Stones.",
        "Growing plants--are classified in Subsector 111, Plants.",  # above the excluder
        "Growing more blue ones--are classified in Industry 111110, Blue Plants.",
        "Growing tall ones--are classified in Industry 339999, Unknown.",
        "Growing--are classified in Industry 111120, Red Plants.",
        "These growers are classified in Industry 111120, Red Plants.",
        "Where red ones are grown, they are classified in Industry 111120, Red Plants.",
        "Industry 111120 grows red ones.",
    ],
)
def test_sentences_that_give_no_query(sentence: str) -> None:
    assert references(sentence) == []


def test_an_answer_may_be_of_any_level_but_not_below_the_excluder() -> None:
    pointer = "Breaking red stones--are classified in Sector 21 or Subsector 999."
    assert [found.answer for found in references(pointer)] == [PLANTS.position("21")]
    assert references("Growing red ones--are classified in Industry 111120.", code="1111") == []
    found = references("Growing red ones--are classified in Industry 111120.", code="211")
    assert [(ref.excluder, ref.answer) for ref in found] == [(PLANTS.position("211"), RED)]


def test_sentences_of_descriptions() -> None:
    assert description_sentences(
        {
            "description": [
                ["This industry grows blue plants.", "It does so well.", "Also red."],
                [],
                [
                    "This industry comprises establishments primarily engaged in one or more of "
                    "the following:",
                    "Illustrative Examples: growing plants in pots.",
                    "This industry does one of the following: (1) growing; or (2) cutting.",
                ],
            ]
        }
    ) == [
        (0, 0, "This industry grows blue plants."),
        (0, 1, "It does so well."),
        (2, 2, "This industry does one of the following: (1) growing; or (2) cutting."),
    ]


def test_the_census_workbooks(census_texts: tuple[Taxonomy, dict[str, list[list[str]]]]) -> None:
    taxonomy, texts = census_texts
    found = cross_references(taxonomy, texts)
    assert sum(map(len, texts["excluded"])) == 4669
    assert len(found) >= 4500
    for ref in found:
        assert texts["excluded"][ref.excluder][ref.segment].count(ref.text) >= 1
        assert taxonomy.codes[ref.answer] not in ref.text.split()
    excluders = np.array([ref.excluder for ref in found])
    answers = np.array([ref.answer for ref in found])
    depth = taxonomy.depth.astype(int)
    apart = taxonomy.pair_distance(excluders, answers)
    assert (apart > abs(depth[excluders] - depth[answers])).all()
    sentences = description_sentences(texts)
    assert len({position for position, _, _ in sentences}) == 2125 - 14
