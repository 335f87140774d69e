"""Token ids of one channel, code by code: where each text of each code begins."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from naics_job.data.shards import MappedIds
from naics_job.taxonomy.tree import IntArray

TokenIds: TypeAlias = "npt.NDArray[np.int32] | MappedIds"


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

    def whole(self) -> tuple[IntArray, IntArray]:
        """First token and number of tokens of each code's whole text, both `[code]`."""
        start = self.token_start[self.segment_start]
        return start[:-1], np.diff(start)

    def single(self) -> tuple[IntArray, IntArray]:
        """First token and number of tokens of each segment, both `[segment]`."""
        return self.token_start[:-1], np.diff(self.token_start)


def ranges(start: IntArray, length: IntArray) -> IntArray:
    """start[0], start[0] + 1, ..., `length[0]` of them, then those of the next one; int64."""
    ends = np.cumsum(length)
    total = int(ends[-1]) if len(ends) else 0
    values: IntArray = np.arange(total) + np.repeat(start - (ends - length), length)
    return values
