"""Sentences, cross-references and the user's texts: in which order, and which may be asked."""

import numpy as np

from naics_job.data.extra_texts import extra_texts, usable_extra
from naics_job.data.labelled import LabelledTexts
from naics_job.data.masks import training_mask
from naics_job.data.prepare import NaicsData
from naics_job.data.query_pool import ExtraText
from naics_job.data.triplets import positive_table
from naics_job.taxonomy.tree import Taxonomy

CODES = ["11", "111", "1111", "11111", "111110", "11112", "111120"]
TREE = Taxonomy.from_codes(CODES, [f"Growing kind {code}" for code in CODES])
BLUE, RED = TREE.position("111110"), TREE.position("111120")


def table() -> NaicsData:
    none: list[list[str]] = [[] for _ in CODES]
    texts = {"title": [[title] for title in TREE.titles], "description": [*none]}
    texts |= {"examples": [*none], "excluded": [*none]}
    texts["description"][0] = [
        "This sector grows many things.",
        "So it is.",  # too short to ask
        "Some growers are in Industry 111120.",
        "All of them like rain.",
    ]
    texts["description"][RED] = ["This industry grows red ones."]
    texts["excluded"][BLUE] = [
        "Nothing.",
        "Growing red ones--are classified in Industry 111120, Growing.",
        "Growing in general--are classified in Sector 21.",
    ]
    offsets = np.zeros(len(CODES) + 1, dtype=np.int64)
    exclusions = offsets, np.empty(0, dtype=np.int32)
    return NaicsData(TREE, texts, exclusions, positive_table(TREE), "bundled", "0" * 64)


def own_texts() -> LabelledTexts:
    weights, ones = np.array([1.0, 2.5]), np.array([1, 2])
    return LabelledTexts(["a red farm", "b"], np.array([RED, BLUE]), weights, ones, "", "file.csv")


def test_the_order_is_sentences_references_own() -> None:
    assert extra_texts(table(), own_texts()) == [
        ExtraText("This sector grows many things.", "sentence", 0),
        ExtraText("Some growers are in Industry 111120.", "sentence", 0),
        ExtraText("All of them like rain.", "sentence", 0),
        ExtraText("This industry grows red ones.", "sentence", RED),
        ExtraText("Growing red ones", "cross_reference", RED, excluder=BLUE),
        ExtraText("a red farm", "labelled", RED, weight=1.0),
        ExtraText("b", "labelled", BLUE, weight=2.5),
    ]
    assert len(extra_texts(table(), None)) == 5


def test_what_names_or_is_of_a_held_out_code_is_not_usable() -> None:
    data = table()
    nothing = training_mask(TREE, data.texts, np.zeros(len(CODES), dtype=bool))
    assert usable_extra(data, nothing, own_texts()).all()
    held = np.isin(CODES, ["11112", "111120"])
    mask = training_mask(TREE, data.texts, held)
    found = usable_extra(data, mask, own_texts())
    # the user's texts of held-out codes are sorted out by their codes
    assert found.tolist() == [True, False, True, False, False, True, True]
    assert len(usable_extra(data, mask, None)) == 5
