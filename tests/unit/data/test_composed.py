from naics_job.data.composed import composed_channels
from naics_job.taxonomy.codes import bundled_titles
from naics_job.taxonomy.tree import Taxonomy

CODES, TITLES = zip(*bundled_titles(), strict=True)
ROWS = {row.code: row for row in composed_channels(Taxonomy.from_codes(CODES, TITLES))}


def test_every_code_has_a_description_that_does_not_repeat_its_title() -> None:
    assert len(ROWS) == 2125
    assert ROWS["11"].description == "Sector. It is divided into 5 parts."
    for row in ROWS.values():
        assert not row.description.startswith(row.title)


def test_description_names_two_ancestors_nearest_first_and_once() -> None:
    expected = "National industry within Oilseed and Grain Farming; Crop Production."
    assert ROWS["111110"].description == expected  # its parent has its own title
    assert ROWS["111"].description == (
        "Subsector within Agriculture, Forestry, Fishing and Hunting. It is divided into 5 parts."
    )


def test_examples_are_children_and_leaves_have_none() -> None:
    assert ROWS["11111"].examples == []  # its one child has the same title
    assert ROWS["111"].examples[0] == "Oilseed and Grain Farming"
    assert not any(row.examples for code, row in ROWS.items() if len(code) == 6)


def test_siblings_are_what_a_code_is_not_but_no_explicit_exclusions() -> None:
    (sentence,) = ROWS["11111"].excluded
    assert sentence.startswith("Not Oilseed (except Soybean) Farming; ")
    assert sentence.endswith("; Rice Farming; Other Grain Farming.")
    assert "; Soybean" not in sentence
    assert ROWS["111110"].excluded == []  # it has no sibling
    assert not any(row.excluded_codes for row in ROWS.values())


def test_the_nearest_siblings_are_named_when_there_are_many() -> None:
    (sentence,) = ROWS["42"].excluded  # three sectors before it, three behind
    assert sentence.startswith("Not Utilities; Construction; Manufacturing; Retail Trade; ")
    assert sentence.endswith("; Information.")
