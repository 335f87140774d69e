"""Where the texts of codes begin and end in a row of tokens."""

import numpy as np

from naics_job.data.segments import Segments, ranges


def test_whole_and_single_texts_by_hand() -> None:
    segments = Segments(
        ids=np.arange(16, dtype=np.int32),
        token_start=np.array([0, 3, 5, 5, 16]),
        segment_start=np.array([0, 2, 2, 4]),
    )
    start, length = segments.whole()
    assert length.tolist() == [5, 0, 11]
    assert start[[0, 2]].tolist() == [0, 5]
    start, length = segments.single()
    assert (start.tolist(), length.tolist()) == ([0, 3, 5, 5], [3, 2, 0, 11])


def test_ranges() -> None:
    assert ranges(np.array([5, 1, 9]), np.array([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]
    empty = np.array([], dtype=np.int64)
    assert ranges(empty, empty).tolist() == []
