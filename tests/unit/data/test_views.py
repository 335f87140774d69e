import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from naics_job.data.views import MIN_PIECE, Segments, leading, ranges, sampled, seed_key


def segments_of(lengths: list[list[int]]) -> Segments:
    """Codes with segments of the given lengths; every token id is its own place."""
    flat = [length for code in lengths for length in code]
    return Segments(
        ids=np.arange(sum(flat), dtype=np.int32),
        token_start=np.cumsum([0, *flat]),
        segment_start=np.cumsum([0, *map(len, lengths)]),
    )


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 30), max_size=12), min_size=1, max_size=6),
    st.integers(2, 60),
    st.integers(1, 5),
)
def test_sampled_pieces_keep_order_fit_and_use_the_room(
    lengths: list[list[int]], budget: int, view: int
) -> None:
    segments = segments_of(lengths)
    rows = np.arange(len(lengths))
    pieces = sampled(segments, rows, budget, seed_key(1, 0), view)
    assert (np.diff(pieces.row) >= 0).all()
    for row, own in enumerate(lengths):
        mine = pieces.row == row
        start, length = pieces.start[mine], pieces.length[mine]
        total = int(length.sum())
        assert total <= budget
        assert (start[1:] >= (start + length)[:-1]).all()  # original order, no token twice
        first = segments.token_start[segments.segment_start[row]]
        last = segments.token_start[segments.segment_start[row + 1]]
        assert (start >= first).all()
        assert (start + length <= last).all()
        if sum(own) <= budget:
            assert total == sum(own)
        else:
            assert total > budget - MIN_PIECE


def test_views_differ_are_stable_and_do_not_depend_on_the_batch() -> None:
    segments = segments_of([[5] * 40, [7] * 40, [3] * 40])
    key = seed_key(9, 2)

    def tokens(positions: list[int], view: int, row: int) -> list[int]:
        pieces = sampled(segments, np.array(positions), 50, key, view)
        mine = pieces.row == row
        return ranges(pieces.start[mine], pieces.length[mine]).tolist()

    assert tokens([1], 1, 0) == tokens([0, 1, 2], 1, 1) == tokens([2, 1, 1], 1, 2)
    assert tokens([1], 1, 0) != tokens([1], 2, 0)
    other = sampled(segments, np.array([1]), 50, seed_key(9, 3), 1)
    assert ranges(other.start, other.length).tolist() != tokens([1], 1, 0)


def test_no_token_is_always_cut() -> None:
    segments = segments_of([[20] * 10, [200]])  # the second is one segment beyond any budget
    seen: list[set[int]] = [set(), set()]
    for view in range(1, 200):
        pieces = sampled(segments, np.array([0, 1]), 45, seed_key(3, 1), view)
        for row in (0, 1):
            mine = pieces.row == row
            seen[row] |= set(ranges(pieces.start[mine], pieces.length[mine]).tolist())
    assert seen[0] == set(range(200))
    assert seen[1] == set(range(200, 400))


def test_segments_are_drawn_evenly() -> None:
    segments = segments_of([[10] * 10])
    counts = np.zeros(10)
    for view in range(1, 2001):
        pieces = sampled(segments, np.array([0]), 30, seed_key(5, 1), view)
        counts[pieces.start // 10] += 1
    # 600 expected of each, binomial deviation 20.5: five of them is beyond chance
    assert np.abs(counts - 600).max() < 103


def test_leading_pieces_are_the_beginning() -> None:
    segments = segments_of([[5, 5], [], [3]])
    pieces = leading(segments, np.array([2, 0, 1]), 7)
    assert pieces.start.tolist() == [10, 0, 10]
    assert pieces.length.tolist() == [3, 7, 0]


def test_ranges() -> None:
    assert ranges(np.array([5, 1, 9]), np.array([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]
    empty = np.array([], dtype=np.int64)
    assert ranges(empty, empty).tolist() == []
