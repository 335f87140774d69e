"""Which texts are encoded together: distinct ones of similar length, in blocks."""

import hashlib
from dataclasses import dataclass

import numpy as np

from naics_job.data.tokens import Ragged
from naics_job.taxonomy.tree import BoolArray, IntArray

# What starting one more block costs, as the number of tokens that take as long to encode: about
# 4 ms of operator calls against 0.1-0.3 ms per token on a CPU.
BLOCK_COST_TOKENS = 32
BLOCK_COST_BF16 = 128  # the same where the frozen weights are cast to bfloat16 for each block
MAX_BLOCK_TOKENS = 8192  # padded; bounds activation memory, larger blocks are not faster


@dataclass(frozen=True)
class Distinct:
    """The distinct non-empty texts of a ragged array."""

    rows: IntArray  # [distinct] int64, first row that holds each text
    index: IntArray  # [row] int64, the row's text in `rows`, -1 for an empty row


def distinct_texts(tokens: Ragged) -> Distinct:
    """Find the rows of `tokens` that must be encoded; equal token lists are one text."""
    ids = np.ascontiguousarray(tokens.ids)
    ends = np.cumsum(tokens.lengths, dtype=np.int64)
    index = np.full(len(ends), -1, dtype=np.int64)
    seen: dict[bytes, int] = {}
    rows: list[int] = []
    for row, (end, length) in enumerate(zip(ends.tolist(), tokens.lengths.tolist(), strict=True)):
        if length:
            text = seen.setdefault(ids[end - length : end].tobytes(), len(rows))
            if text == len(rows):
                rows.append(row)
            index[row] = text
    return Distinct(np.asarray(rows, dtype=np.int64), index)


def text_keys(tokens: Ragged, rows: IntArray) -> IntArray:
    """A number for each of the texts `rows`, `[len(rows)]` int64, that its tokens alone decide."""
    ids = np.ascontiguousarray(tokens.ids, dtype=np.int32)
    ends = np.cumsum(tokens.lengths, dtype=np.int64)[rows]
    starts = ends - np.asarray(tokens.lengths, dtype=np.int64)[rows]
    digests = b"".join(
        hashlib.blake2b(ids[start:end].tobytes(), digest_size=8).digest()
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    )
    return np.frombuffer(digests, dtype="<i8").astype(np.int64)


def length_blocks(
    lengths: IntArray,
    block_cost: int = BLOCK_COST_TOKENS,
    max_tokens: int = MAX_BLOCK_TOKENS,
) -> list[IntArray]:
    """Cut texts into blocks of similar length: rows of each block, shortest block first.

    The cut minimises padded tokens + `block_cost` * blocks exactly, by dynamic programming over the
    distinct lengths; a block above `max_tokens` padded tokens is then split evenly.

    Args:
        lengths: tokens per text, `[text]`, all above 0.
        block_cost: tokens that one more block is worth.
        max_tokens: most padded tokens of a block; a longer single text is a block of its own.
    """
    if len(lengths) == 0:
        return []
    order = np.argsort(lengths, kind="stable")
    values, counts = np.unique(lengths, return_counts=True)
    before = np.concatenate(([0], np.cumsum(counts)))  # texts below each distinct length
    best = np.zeros(len(values) + 1)  # cost of the texts below each distinct length
    start = np.zeros(len(values) + 1, dtype=np.int64)
    for end in range(1, len(values) + 1):
        cost = best[:end] + (before[end] - before[:end]) * values[end - 1] + block_cost
        start[end] = int(cost.argmin())
        best[end] = cost[start[end]]
    blocks: list[IntArray] = []
    end = len(values)
    while end:
        rows = order[before[start[end]] : before[end]]
        pieces = -(-len(rows) * int(values[end - 1]) // max_tokens)
        blocks.extend(reversed(np.array_split(rows, min(pieces, len(rows)))))
        end = int(start[end])
    return blocks[::-1]


def padded_ids(tokens: Ragged, rows: IntArray, pad_id: int) -> tuple[IntArray, BoolArray]:
    """The texts `rows` as one array `[text, token]` int64 and the mask of real tokens."""
    ends = np.cumsum(tokens.lengths, dtype=np.int64)[rows]
    lengths = np.asarray(tokens.lengths, dtype=np.int64)[rows]
    column = np.arange(int(lengths.max()))
    mask = column < lengths[:, None]  # [text, token]
    ids = np.full(mask.shape, pad_id, dtype=np.int64)
    ids[mask] = tokens.ids[((ends - lengths)[:, None] + column)[mask]]
    return ids, mask


def concatenated(parts: list[Ragged]) -> Ragged:
    """The rows of several ragged arrays one after the other."""
    ids = np.concatenate([part.ids for part in parts])
    return Ragged(ids, np.concatenate([part.lengths for part in parts]))
