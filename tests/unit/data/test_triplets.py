import numpy as np
import pytest

from naics_job.data.relations import Relation
from naics_job.data.triplets import positive_table, positives_from, triplet_table
from naics_job.taxonomy.codes import bundled_titles, level_of, parent_of
from naics_job.taxonomy.tree import Taxonomy

CODES, TITLES = zip(*bundled_titles(), strict=True)
NAICS = Taxonomy.from_codes(CODES, TITLES)
POSITIVES = positive_table(NAICS)


def expected_positives(code: str) -> dict[str, tuple[Relation, int]]:
    """Relation and distance of every lineal relative and sibling, from the digits alone."""
    found: dict[str, tuple[Relation, int]] = {}
    for other in NAICS.codes:
        gap = level_of(other) - level_of(code)
        chain = [max((code, other), key=level_of)]
        while (above := parent_of(chain[-1])) is not None:
            chain.append(above)
        if gap and code in chain and other in chain:
            near = Relation.CHILD if gap > 0 else Relation.PARENT
            far = Relation.DESCENDANT if gap > 0 else Relation.ANCESTOR
            found[other] = (near if abs(gap) == 1 else far, abs(gap))
        elif code != other and parent_of(code) is not None and parent_of(code) == parent_of(other):
            found[other] = (Relation.SIBLING, 2)
    return found


@pytest.mark.parametrize("code", ["11", "31-33", "311", "1111", "11111", "111110", "541519"])
def test_positives_are_lineal_relatives_both_ways_and_siblings(code: str) -> None:
    anchor = NAICS.position(code)
    rows = slice(POSITIVES.offsets[anchor], POSITIVES.offsets[anchor + 1])
    found = {
        NAICS.codes[positive]: (Relation(relation), distance)
        for positive, relation, distance in zip(
            POSITIVES.positive[rows],
            POSITIVES.relation[rows],
            POSITIVES.distance[rows],
            strict=True,
        )
    }
    assert found == expected_positives(code)
    assert list(POSITIVES.positive[rows]) == sorted(POSITIVES.positive[rows])


def test_every_code_has_a_positive_and_every_pair_its_mirror() -> None:
    assert (np.diff(POSITIVES.offsets) > 0).all()
    anchors = POSITIVES.anchor.tolist()
    pairs = list(zip(anchors, POSITIVES.positive.tolist(), strict=True))
    assert len(pairs) == len(set(pairs))
    assert {(b, a) for a, b in pairs} == set(pairs)
    np.testing.assert_array_equal(
        POSITIVES.distance, NAICS.pair_distance(POSITIVES.anchor, POSITIVES.positive)
    )
    np.testing.assert_allclose(POSITIVES.margin, 1.0 / POSITIVES.distance, rtol=1e-6)


def test_table_and_back() -> None:
    table = triplet_table(NAICS, None)
    back = positives_from(table, len(NAICS))
    for name in ("offsets", "positive", "relation", "distance", "margin"):
        left, right = getattr(back, name), getattr(POSITIVES, name)
        np.testing.assert_array_equal(left, right)
        assert left.dtype == right.dtype
    row = table.slice(0, 1).to_pylist()[0]
    assert (row["anchor_code"], row["positive_code"]) == ("11", "111")


def test_sectors_alone_have_no_positives() -> None:
    alone = positive_table(Taxonomy.from_codes(["11", "21"], ["a", "b"]))
    assert alone.offsets.tolist() == [0, 0, 0]
    assert len(alone.positive) == 0
