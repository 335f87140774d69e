import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naics_job.errors import DataError
from naics_job.taxonomy.codes import bundled_titles
from naics_job.taxonomy.tree import Taxonomy

CODES, TITLES = zip(*bundled_titles(), strict=True)
NAICS = Taxonomy.from_codes(CODES, TITLES)


def chain(taxonomy: Taxonomy, position: int) -> list[int]:
    """The code and its ancestors, then -1 for the virtual root; by parents alone."""
    path = [position]
    while path[-1] >= 0:
        path.append(int(taxonomy.parent[path[-1]]))
    return path


def slow_distance(taxonomy: Taxonomy, a: int, b: int) -> int:
    """Edges of the path: walk up from b until a's chain is met."""
    up = chain(taxonomy, a)
    for steps, node in enumerate(chain(taxonomy, b)):
        if node in up:
            return steps + up.index(node)
    raise AssertionError("no common ancestor")


@st.composite
def trees(draw: st.DrawFn) -> Taxonomy:
    count = draw(st.integers(1, 40))
    parent = [draw(st.integers(-1, row - 1)) for row in range(count)]
    names = draw(st.permutations([f"c{row:02d}" for row in range(count)]))
    order = draw(st.permutations(range(count)))  # rows in any order, parents after children too
    place = {row: new for new, row in enumerate(order)}
    shuffled = np.array([place[parent[row]] if parent[row] >= 0 else -1 for row in order])
    codes = [names[row] for row in order]
    return Taxonomy.from_parents(codes, [f"title {code}" for code in codes], shuffled)


@settings(max_examples=60, deadline=None)
@given(trees())
def test_any_tree_matches_the_slow_reference(taxonomy: Taxonomy) -> None:
    everyone = np.arange(len(taxonomy))
    block = taxonomy.tree_distance(everyone, everyone)
    lineal = taxonomy.is_lineal(everyone, everyone)
    for a in range(len(taxonomy)):
        up = chain(taxonomy, a)
        assert len(up) - 1 == taxonomy.depth[a]
        assert taxonomy.parent[a] < a  # pre-order
        assert list(taxonomy.ancestors[a, 1 : len(up)]) == up[-2::-1]
        assert (taxonomy.ancestors[a, len(up) :] == -1).all()
        below = [b for b in range(len(taxonomy)) if a in chain(taxonomy, b)]
        assert below == list(range(a, taxonomy.subtree_end[a]))
        for b in range(len(taxonomy)):
            assert block[a, b] == slow_distance(taxonomy, a, b)
            assert lineal[a, b] == (a in chain(taxonomy, b) or b in up)
    pairs = np.random.default_rng(0).integers(0, len(taxonomy), (2, 50))
    assert (taxonomy.pair_distance(pairs[0], pairs[1]) == block[pairs[0], pairs[1]]).all()
    for above in {-1, *taxonomy.parent.tolist()}:
        siblings = [taxonomy.codes[row] for row in np.flatnonzero(taxonomy.parent == above)]
        assert siblings == sorted(siblings)
    assert all(
        title == f"title {code}"
        for code, title in zip(taxonomy.codes, taxonomy.titles, strict=True)
    )


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2124), st.integers(0, 2124))
def test_naics_distance_matches_the_slow_reference(a: int, b: int) -> None:
    distance = NAICS.tree_distance(np.array([a]), np.array([b]))[0, 0]
    assert distance == slow_distance(NAICS, a, b)
    assert (distance == 0) == (a == b)


@pytest.mark.parametrize(
    ("a", "b", "edges"),
    [
        ("311", "321", 2),  # both are children of the one sector 31-33
        ("31-33", "339", 1),
        ("311111", "339999", 8),
        ("111110", "111120", 4),
        ("11111", "11112", 2),
        ("111110", "541110", 10),  # different sectors meet at the virtual root
        ("11", "21", 2),
        ("11", "111110", 4),
        ("111110", "111110", 0),
    ],
)
def test_distances_worked_by_hand(a: str, b: str, edges: int) -> None:
    block = NAICS.tree_distance(NAICS.positions([a]), NAICS.positions([b]))
    assert block.dtype == np.int16
    assert block[0, 0] == edges


def test_naics_is_sorted_and_counted() -> None:
    assert NAICS.codes == tuple(sorted(CODES))
    assert len(NAICS.six_digit()) == 1012
    assert set(NAICS.level[NAICS.six_digit()]) == {6}
    assert NAICS.titles[NAICS.position("31-33")] == "Manufacturing"
    end = NAICS.subtree_end[NAICS.position("31-33")]
    assert NAICS.codes[end] == "42"


def test_rows_may_come_in_any_order() -> None:
    order = np.random.default_rng(1).permutation(len(CODES))
    shuffled = Taxonomy.from_codes([CODES[row] for row in order], [TITLES[row] for row in order])
    assert shuffled.codes == NAICS.codes
    assert shuffled.titles == NAICS.titles
    np.testing.assert_array_equal(shuffled.ancestors, NAICS.ancestors)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (["11", "111", "11"], "code 11 occurs twice"),
        (["11", "1111"], "111 is missing"),
        (["11", "11x"], "'11x' is not a NAICS code"),
        (["31", "311"], "31-33 is missing"),
        ([], "at least one"),
    ],
)
def test_broken_code_tables_are_refused(codes: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Taxonomy.from_codes(codes, ["title"] * len(codes))


def test_cycles_and_stray_parents_are_refused() -> None:
    with pytest.raises(DataError, match="cycle"):
        Taxonomy.from_parents(["a", "b", "c"], [""] * 3, np.array([-1, 2, 1]))
    with pytest.raises(DataError, match="outside"):
        Taxonomy.from_parents(["a", "b"], [""] * 2, np.array([-1, 2]))


def test_unknown_code_names_itself() -> None:
    with pytest.raises(DataError, match="'999999' is not in the taxonomy"):
        NAICS.positions(["11", "999999"])
