"""Which index items become queries."""

from dataclasses import replace

from naics_job.data.channels import CodeText
from naics_job.data.queries import MIN_ITEMS, hold_out_queries

ITEMS = ["Barley farming", "Oat  Farming", "Rye farming", "Millet farming", "Teff farming"]


def row(code: str, examples: list[str], description: str = "", title: str = "") -> CodeText:
    return CodeText(code, title or f"T{code}", description, "own", examples, [], [])


def family(examples: list[str]) -> list[CodeText]:
    above = [row(code, []) for code in ("11", "111", "1111", "11111")]
    return [*above, row("111111", examples)]


def queries(rows: list[CodeText]) -> list[str]:
    return [query for found in hold_out_queries(rows) for query in found.queries]


def test_one_item_moves_and_nothing_else_changes() -> None:
    rows = family(ITEMS)
    after = hold_out_queries(rows)
    (query,) = after[-1].queries
    assert query in ITEMS
    assert after[-1].examples == [item for item in ITEMS if item != query]
    assert after[:-1] == rows[:-1]
    assert replace(after[-1], examples=ITEMS, queries=[]) == rows[-1]


def test_few_items_and_wider_codes_give_none_away() -> None:
    assert queries(family(ITEMS[:MIN_ITEMS]))
    assert not queries(family(ITEMS[: MIN_ITEMS - 1]))
    assert not queries([row("11", []), row("111", ITEMS)])


def test_the_choice_depends_on_the_code_and_its_items() -> None:
    chosen = queries(family(ITEMS))
    assert queries(family(ITEMS[::-1])) == chosen
    assert queries([*family(ITEMS), row("111112", ["other"] * 9)])[:1] == chosen
    others = [[row(f"1111{n}", ITEMS)] for n in range(10, 40)]
    assert {queries(rows)[0] for rows in others} == set(ITEMS)  # other codes, other choices


def test_an_item_that_can_still_be_read_is_no_query() -> None:
    (first,) = queries(family(ITEMS))
    elsewhere = row("222222", [first.upper()])
    assert queries([*family(ITEMS), elsewhere]) != [first]
    titled = row("2222", [], title=first.replace(" ", "  "))
    assert queries([*family(ITEMS), titled]) != [first]
    longer = row("222222", [f"{first}, organic"])
    assert queries([*family(ITEMS), longer]) != [first]
    excluding = replace(row("222222", []), excluded=[f"{first} is classified elsewhere."])
    assert queries([*family(ITEMS), excluding]) != [first]
    rows = family(ITEMS)
    rows[1] = row("111", [], description=f"This is about {first.lower()} and more.")
    assert queries(rows) != [first]
    rows[1] = row("111", [], description=" ".join(ITEMS))
    assert queries(rows) == []
