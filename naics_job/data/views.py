"""Which tokens of a text are encoded when it is longer than its channel allows.

View 0 is the beginning of the text. Every further view is a random subset of its segments in their
original order, so that over several views every part of a long text is seen. The draw is a hash of
(seed, channel, position, view, segment), not a stream: a view does not depend on what else is in
the batch, on the process or on the order of calls.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from naics_job.data.shards import MappedIds
from naics_job.taxonomy.tree import IntArray

Words = npt.NDArray[np.uint64]

TokenIds: TypeAlias = "npt.NDArray[np.int32] | MappedIds"

MIN_PIECE = 8  # tokens; less room than this at the end of a view stays empty


@dataclass(frozen=True, eq=False)
class Segments:
    """The token ids of one channel: all codes, each a run of segments.

    Attributes:
        ids: `[token]` int32, in memory or in mapped files.
        token_start: `[segment + 1]` int64, first token of each segment.
        segment_start: `[code + 1]` int64, first segment of each code.
    """

    ids: TokenIds
    token_start: IntArray
    segment_start: IntArray

    @property
    def code_tokens(self) -> IntArray:
        """Tokens of each code `[code]` int64, without special tokens."""
        tokens: IntArray = np.diff(self.token_start[self.segment_start])
        return tokens


@dataclass(frozen=True, eq=False)
class Pieces:
    """Runs of tokens sorted by row: `length` tokens from `start` go to `row`; `[piece]` each."""

    row: IntArray
    start: IntArray
    length: IntArray


def leading(segments: Segments, positions: IntArray, budget: int) -> Pieces:
    """The first `budget` tokens of each code in `positions` `[row]`: one piece per row."""
    start = segments.token_start[segments.segment_start[positions]]
    end = segments.token_start[segments.segment_start[positions + 1]]
    return Pieces(np.arange(len(positions)), start, np.minimum(end - start, budget))


def sampled(segments: Segments, positions: IntArray, budget: int, key: Words, view: int) -> Pieces:
    """A random subset of the segments of each code in `positions` `[row]`, `budget` tokens in all.

    Segments are taken in random order while they fit. The first that does not fit gives a random
    window of the room that is left, so that a segment longer than the budget is seen as well.
    """
    first = segments.segment_start[positions]
    count = segments.segment_start[positions + 1] - first  # [row]
    row = np.repeat(np.arange(len(positions)), count)  # [segment], as all below
    segment = ranges(first, count)
    local = segment - first[row]
    draw = _hash(key, positions[row], view, local)
    length = segments.token_start[segment + 1] - segments.token_start[segment]

    order = np.lexsort((draw, row))
    taken = np.cumsum(length[order]) - length[order]  # tokens in front, over all rows
    first_of_row = np.cumsum(count) - count
    before = np.empty_like(length)
    before[order] = taken - taken[first_of_row[row]]  # order keeps each row in its place
    room = budget - before
    keep = (room >= length) | (room >= MIN_PIECE) | ((before == 0) & (room > 0))
    cut = np.minimum(length, room)
    spare = (length - cut)[keep]
    window = (_mix(draw[keep]) % (spare + 1).astype(np.uint64)).astype(np.int64)
    return Pieces(row[keep], segments.token_start[segment[keep]] + window, cut[keep])


def ranges(start: IntArray, length: IntArray) -> IntArray:
    """start[0], start[0] + 1, ..., `length[0]` of them, then those of the next one; int64."""
    ends = np.cumsum(length)
    total = int(ends[-1]) if len(ends) else 0
    values: IntArray = np.arange(total) + np.repeat(start - (ends - length), length)
    return values


def seed_key(seed: int, channel: int) -> Words:
    """The part of the hash that is the same for all codes of a channel, `[1]`."""
    words = np.array([seed, channel], dtype=np.uint64)
    return _mix(_mix(words[:1]) ^ words[1:])


def _hash(key: Words, position: IntArray, view: int, segment: IntArray) -> Words:
    word = _mix(key ^ position.astype(np.uint64))
    word = _mix(word ^ np.full(1, view, dtype=np.uint64))
    return _mix(word ^ segment.astype(np.uint64))


def _mix(words: Words) -> Words:
    """SplitMix64 (Steele, Lea, Flood 2014): a bijection of 64-bit words that looks random."""
    mixed = words + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
