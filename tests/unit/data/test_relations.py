import numpy as np
import pytest

from naics_job.data.relations import (
    Relation,
    relation_name,
    relation_of,
    relation_table,
    sector_pairs,
    steps,
)
from naics_job.taxonomy.codes import bundled_titles, sector_of
from naics_job.taxonomy.tree import Taxonomy

CODES, TITLES = zip(*bundled_titles(), strict=True)
NAICS = Taxonomy.from_codes(CODES, TITLES)
TABLE = relation_table(NAICS, None)


def test_pairs_are_all_pairs_of_one_sector_once() -> None:
    a, b = sector_pairs(NAICS)
    sectors = np.array([sector_of(code) for code in NAICS.codes])
    expected = np.argwhere(np.triu(sectors[:, None] == sectors[None, :], k=1))
    np.testing.assert_array_equal(np.stack([a, b], axis=1), expected)
    assert len(a) == 272_103


@pytest.mark.parametrize(
    ("a", "b", "kind", "name"),
    [
        ("11", "111", Relation.CHILD, "child"),
        ("111110", "11111", Relation.PARENT, "parent"),
        ("11", "1111", Relation.DESCENDANT, "grandchild"),
        ("11", "111110", Relation.DESCENDANT, "great-great-grandchild"),
        ("111110", "111", Relation.ANCESTOR, "great-grandparent"),
        ("311", "321", Relation.SIBLING, "sibling"),  # of the one sector 31-33
        ("111", "1121", Relation.NEPHEW, "nephew"),
        ("111", "11211", Relation.NEPHEW, "grand-nephew"),
        ("111", "112111", Relation.NEPHEW, "great-grand-nephew"),
        ("112111", "111", Relation.UNCLE, "great-grand-uncle"),
        ("1111", "1121", Relation.COUSIN, "cousin"),
        ("11111", "11211", Relation.COUSIN, "second cousin"),
        ("111110", "112111", Relation.COUSIN, "third cousin"),
        ("1111", "11211", Relation.COUSIN_REMOVED, "cousin once removed"),
        ("112111", "1111", Relation.COUSIN_REMOVED, "cousin twice removed"),
    ],
)
def test_relations_worked_by_hand(a: str, b: str, kind: Relation, name: str) -> None:
    up, down = steps(NAICS, NAICS.positions([a]), NAICS.positions([b]))
    assert Relation(relation_of(up, down)[0]) == kind
    assert relation_name(int(up[0]), int(down[0])) == name


def test_table_agrees_with_the_digits_of_the_codes() -> None:
    rows = TABLE.slice(100_000, 20_000).to_pylist()
    assert {len({row["code_a"], row["code_b"]}) for row in rows} == {2}
    for row in rows[::97]:
        a, b = row["code_a"], row["code_b"]
        assert (NAICS.codes[row["a"]], NAICS.codes[row["b"]]) == (a, b)
        assert (row["relation"] == "sibling") == (
            NAICS.parent[row["a"]] == NAICS.parent[row["b"]] and NAICS.parent[row["a"]] >= 0
        )
        lineal = b.startswith(a) or (a == "31-33" and b[:2] in ("31", "32", "33"))
        assert ("child" in row["relation"]) == lineal
    kinds = np.bincount(TABLE["relation_id"].to_numpy())
    assert kinds[Relation.CHILD] == 2105  # every code but the sectors is a child once
    assert kinds[Relation.PARENT] == kinds[Relation.ANCESTOR] == 0  # a stands before b
