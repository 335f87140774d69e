"""What training may read when codes are held out, on a small table, NAICS and the workbooks."""

import re
import time
from dataclasses import dataclass, field

import numpy as np
import pytest

from naics_job.data.composed import composed_channels
from naics_job.data.masks import TrainingMask, training_mask
from naics_job.data.sentences import split_sentences
from naics_job.data.splits import split_families
from naics_job.taxonomy.codes import bundled_titles
from naics_job.taxonomy.tree import BoolArray, Taxonomy

NAICS = Taxonomy.from_codes(*zip(*bundled_titles(), strict=True))
CODES = ["11", "111", "1111", "11111", "111110", "1112", "11121", "111210", "11122", "111220"]
HELD = ("11111", "111110")  # all that is below 1111

Texts = dict[str, list[list[str]]]


@dataclass
class Table:
    """Ten codes with texts that do not repeat each other, and changes to them."""

    texts: dict[str, dict[str, list[str]]] = field(
        default_factory=lambda: {
            "title": {code: [f"Growing kind {code}"] for code in CODES},
            "description": {code: [f"This industry is about {code[::-1]}-s."] for code in CODES},
            "examples": {code: [f"Item of {code}"] for code in CODES},
            "excluded": {code: ["Things of others."] for code in CODES},
        }
    )

    def put(self, channel: str, code: str, *segments: str) -> "Table":
        self.texts[channel][code] = list(segments)
        return self

    def mask(self) -> TrainingMask:
        texts = {name: [of[code] for code in CODES] for name, of in self.texts.items()}
        taxonomy = Taxonomy.from_codes(CODES, [title for [title] in texts["title"]])
        assert taxonomy.codes == tuple(CODES)
        return training_mask(taxonomy, texts, np.isin(CODES, HELD))


def at(code: str) -> int:
    return CODES.index(code)


def segments(mask: TrainingMask, channel: str, code: str) -> list[bool]:
    first, end = mask.offsets[channel][at(code) : at(code) + 2]
    values: BoolArray = getattr(mask, "sentences" if channel == "description" else channel)
    return [bool(value) for value in values[first:end]]


def test_only_held_out_codes_lose_texts_where_nothing_repeats() -> None:
    mask = Table().mask()
    trained = ~np.isin(CODES, HELD)
    for flat in (mask.title, mask.description, mask.sentences, mask.examples, mask.excluded):
        np.testing.assert_array_equal(flat, trained)
        assert flat.dtype == np.bool_
    assert not mask.title_kept.any()
    for offsets in mask.offsets.values():
        np.testing.assert_array_equal(offsets, np.arange(len(CODES) + 1))


def test_nothing_is_masked_when_nothing_is_held_out() -> None:
    texts = Table().texts
    channels = {name: [of[code] for code in CODES] for name, of in texts.items()}
    taxonomy = Taxonomy.from_codes(CODES, [title for [title] in channels["title"]])
    mask = training_mask(taxonomy, channels, np.zeros(len(CODES), dtype=bool))
    for flat in (mask.title, mask.description, mask.sentences, mask.examples, mask.excluded):
        assert flat.all()


def test_a_title_that_repeats_a_held_out_one() -> None:
    table = Table().put("title", "111110", "Blue Plants").put("title", "1111", "BLUE  plants.")
    mask = table.put("title", "1112", "Blue Plants and Others").mask()
    assert not mask.title[at("1111")]
    assert mask.title[at("1112")]
    assert not mask.title_kept.any()  # 1111 has a description


@pytest.mark.parametrize("noun", ["industry group", "industry", "NAICS industry", "subsector"])
def test_a_description_that_differs_in_its_subject_only(noun: str) -> None:
    own = ("This U.S. industry grows blue. It waters them.",)
    table = Table().put("description", "111110", *own)
    table.put("description", "1111", f"This {noun} grows  blue.", "It waters them.")
    table.put("description", "11122", *own)  # not above it
    mask = table.put("description", "1112", f"This {noun} grows blue.").mask()
    assert not mask.description[at("1111")]
    assert segments(mask, "description", "1111") == [False, False]
    assert mask.description[at("1112")]
    assert mask.description[at("11122")]


def test_a_description_of_which_half_names_a_held_out_code() -> None:
    named, other = "Some are blue plants, others not.", "Nothing of that."
    table = Table().put("title", "111110", "Blue Plants")
    table.put("description", "11", named, other, "More.").put("description", "1112", other, named)
    table.put("description", "111220", "See Industry 111110 for it.")
    mask = table.put("description", "111210", "Some are blue plantstands, blue or plants.").mask()
    assert mask.description[at("11")]
    assert segments(mask, "description", "11") == [False, True, True]
    assert not mask.description[at("1112")]
    assert segments(mask, "description", "1112") == [False, False]
    assert not mask.description[at("111220")]
    assert mask.description[at("111210")]


def test_a_title_of_one_word_counts_in_exclusions_only_and_as_written() -> None:
    table = Table().put("title", "111110", "Logging").put("description", "1112", "About Logging.")
    table.put("excluded", "1112", "Not Logging; Other.", "Well logging is elsewhere.")
    mask = table.mask()
    assert mask.description[at("1112")]
    assert segments(mask, "excluded", "1112") == [False, True]


def test_an_example_that_repeats_an_example_or_a_title() -> None:
    table = Table().put("title", "111110", "Blue Plants").put("examples", "111110", "Flax growing")
    table.put("examples", "111210", "flax growing,", "Flax growing, green", "Blue plants", "Rose")
    assert segments(table.mask(), "examples", "111210") == [False, True, False, True]


def test_exclusions_that_name_a_held_out_code() -> None:
    table = Table().put("title", "111110", "Blue (except Red) Plants").put("excluded", "1112")
    table.put(
        "excluded",
        "111210",
        "Growing blue ones--are classified in U.S. Industry 111110, Something;",
        "Growing blue ones--are classified in Industry 11111.",
        "Growing blue ones--are classified in Industry Group 1111.",  # nothing trained is below it
        "Growing blue ones--are classified in Subsector 111.",
        "Growing red ones--are classified in Industry 111220, or cost $111110.",
        "Not red ones; blue (except red) plants; black ones.",
    )
    mask = table.mask()
    assert segments(mask, "excluded", "111210") == [False, False, False, True, True, False]
    assert segments(mask, "excluded", "1112") == []
    assert segments(mask, "excluded", "111220") == [True]


@pytest.mark.parametrize("examples", [[], ["Blue plants"]])
def test_a_code_that_would_lose_everything_keeps_its_title(examples: list[str]) -> None:
    table = Table().put("title", "111110", "Blue Plants").put("title", "1111", "Blue Plants")
    table.put("description", "1111").put("examples", "1111", *examples)
    mask = table.mask()
    assert mask.title[at("1111")]
    assert np.flatnonzero(mask.title_kept).tolist() == [at("1111")]
    assert mask.description[at("1111")]  # there is none
    mask = table.put("examples", "1111", *examples, "Another").mask()
    assert not mask.title[at("1111")]
    assert not mask.title_kept.any()


def composed() -> Texts:
    rows = composed_channels(NAICS)
    assert [row.code for row in rows] == list(NAICS.codes)
    return {
        "title": [[row.title] for row in rows],
        "description": [split_sentences(row.description) for row in rows],
        "examples": [row.examples for row in rows],
        "excluded": [row.excluded for row in rows],
    }


def check_no_leak(taxonomy: Taxonomy, texts: Texts, held: BoolArray, mask: TrainingMask) -> None:
    """A slow look for titles and numbers of held-out codes in what training may use."""
    names = {taxonomy.titles[row] for row in np.flatnonzero(held)}
    names |= {taxonomy.codes[row] for row in np.flatnonzero(held)}
    pattern = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, names))})(?![\w-])")
    exact = {name.casefold() for name in names}
    for row in np.flatnonzero(~held):
        if mask.title[row] and not mask.title_kept[row]:
            assert taxonomy.titles[row].casefold() not in exact
        for name, flat in (("examples", mask.examples), ("excluded", mask.excluded)):
            usable = flat[mask.offsets[name][row] : mask.offsets[name][row + 1]]
            kept = [text for text, use in zip(texts[name][row], usable, strict=True) if use]
            if name == "examples":
                assert exact.isdisjoint(text.casefold() for text in kept)
            else:
                assert not [text for text in kept if pattern.search(text)]


def test_the_bundled_table_has_no_leak() -> None:
    texts, held = composed(), split_families(NAICS, 0.05, 0.10, 42).held()
    mask = training_mask(NAICS, texts, held)
    check_no_leak(NAICS, texts, held, mask)
    trained = ~held
    assert not mask.title[held].any()
    assert 0.95 < mask.title[trained].mean() < 1
    assert mask.title_kept[trained].mean() < 0.05
    assert mask.description[trained].mean() > 0.9
    assert mask.examples.mean() > 0.75
    assert mask.excluded.mean() > 0.6


def test_the_census_workbooks(census_texts: tuple[Taxonomy, Texts]) -> None:
    taxonomy, texts = census_texts
    held = split_families(taxonomy, 0.05, 0.10, 42).held()
    started = time.process_time()
    mask = training_mask(taxonomy, texts, held)
    assert time.process_time() - started < 1.5
    check_no_leak(taxonomy, texts, held, mask)
    trained = ~held
    families = np.flatnonzero(held & (taxonomy.depth == taxonomy.max_depth - 1))
    above = taxonomy.parent[families]
    children = np.bincount(taxonomy.parent[taxonomy.parent >= 0], minlength=len(taxonomy))
    alone = above[children[above] == 1]
    assert len(alone) >= 10  # families that are the only child
    repeats = [row for row in alone if texts["description"][row]]
    assert not mask.description[repeats].any()
    assert 0.95 < mask.description[trained].mean() < 0.98
    assert mask.title_kept.sum() < 0.03 * trained.sum()
    used = np.repeat(trained, np.diff(mask.offsets["excluded"]))
    assert 0.8 < mask.excluded[used].mean() < 0.92
