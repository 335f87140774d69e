from naics_job.data.composed import composed_channels
from naics_job.taxonomy.codes import bundled_titles
from naics_job.taxonomy.tree import Taxonomy

CODES, TITLES = zip(*bundled_titles(), strict=True)
ROWS = {row.code: row for row in composed_channels(Taxonomy.from_codes(CODES, TITLES))}


def test_every_code_has_a_description_that_ends_at_its_sector() -> None:
    assert len(ROWS) == 2125
    for code, row in ROWS.items():
        assert row.description.startswith(f"{row.title} is a")
        if code.startswith("11") and code != "11":
            assert "Agriculture, Forestry, Fishing and Hunting." in row.description


def test_description_names_ancestors_nearest_first_and_once() -> None:
    assert ROWS["111110"].description == (
        "Soybean Farming is a national industry. It is part of Oilseed and Grain Farming; "
        "Crop Production; Agriculture, Forestry, Fishing and Hunting."
    )


def test_examples_are_children_and_leaves_have_none() -> None:
    assert ROWS["11111"].examples == []  # its one child has the same title
    assert ROWS["111"].examples[0] == "Oilseed and Grain Farming"
    assert not any(row.examples for code, row in ROWS.items() if len(code) == 6)


def test_siblings_are_what_a_code_is_not_but_no_explicit_exclusions() -> None:
    assert "Not Wheat Farming." in ROWS["11111"].excluded
    assert not any("Soybean Farming" in sentence for sentence in ROWS["11111"].excluded)
    assert not any(row.excluded_codes for row in ROWS.values())
    assert len(ROWS["11"].excluded) == 19
