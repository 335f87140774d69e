"""Which anchors come when, with which positives; which codes are held out; all random numbers.

Every random number is a function of (seed, epoch, index of the global batch, purpose, row) alone:
it depends neither on the number of processes or loader workers, nor on how a global batch is cut
into micro-batches, nor on what was drawn before. Any batch can therefore be made at any time.
"""

import hashlib
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from naics_job.config.data_schema import PositiveWeights
from naics_job.data.relations import Relation
from naics_job.data.triplets import PositiveTable
from naics_job.errors import ConfigError
from naics_job.taxonomy.tree import BoolArray, IntArray

log = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.floating[Any]]


def step_rng(seed: int, epoch: int, index: int, purpose: str) -> np.random.Generator:
    """A generator that depends on its four arguments only (Philox, Salmon et al. 2011)."""
    text = f"{seed}/{epoch}/{index}/{purpose}".encode()
    key = np.frombuffer(hashlib.blake2b(text, digest_size=16).digest(), dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


@dataclass(frozen=True)
class RowDraws:
    """Random numbers of the rows `start .. start + num_rows - 1` of one global batch.

    A row gets the same numbers whichever part of the batch is asked for.
    """

    seed: int
    epoch: int
    index: int
    start: int
    num_rows: int

    def uniform(self, purpose: str, count: int) -> FloatArray:
        """Numbers in [0, 1): `[num_rows, count]` float64, always the same for a `purpose`."""
        rng = step_rng(self.seed, self.epoch, self.index, purpose)
        drawn = rng.random((self.start + self.num_rows, count))
        return drawn[self.start :]


@dataclass(frozen=True)
class SamplerPosition:
    """How far training is: `position` anchors of `epoch` are used up, over all processes."""

    epoch: int
    position: int


@dataclass(frozen=True)
class AnchorBatch:
    """Anchors and their positives of one step; the same on every process.

    Attributes:
        epoch: epoch, from 0.
        index: global batch (optimizer step) within the epoch.
        anchors, positives: `[batch]` int64 positions.
        relation: `[batch]` int8, what the positive is to the anchor.
        distance: `[batch]` int8 tree distance.
        margin: `[batch]` float32.
    """

    epoch: int
    index: int
    anchors: IntArray
    positives: IntArray
    relation: IntArray
    distance: IntArray
    margin: FloatArray

    def draws(self, seed: int) -> RowDraws:
        """The random numbers that belong to these rows."""
        return RowDraws(seed, self.epoch, self.index, 0, len(self.anchors))


class EpochOrder:
    """A permutation of the anchors per epoch, cut into global batches that are all full.

    The last batch of an epoch is filled up from the start of the same permutation.
    """

    def __init__(self, anchors: IntArray, seed: int, global_batch_size: int) -> None:
        self.anchors = np.asarray(anchors, dtype=np.int64)
        self.seed, self.global_batch_size = seed, global_batch_size
        self._newest: tuple[int, IntArray] | None = None

    @property
    def num_batches(self) -> int:
        """Global batches per epoch."""
        return -(-len(self.anchors) // self.global_batch_size)

    def batch(self, epoch: int, index: int) -> IntArray:
        """Anchors `[global_batch]` of batch `index` of `epoch`."""
        if not 0 <= index < self.num_batches:
            raise IndexError(f"batch {index} of an epoch of {self.num_batches}")
        if self._newest is None or self._newest[0] != epoch:
            rng = step_rng(self.seed, epoch, 0, "order")
            self._newest = (epoch, rng.permutation(self.anchors))
        first = index * self.global_batch_size
        rows = np.arange(first, first + self.global_batch_size) % len(self.anchors)
        return self._newest[1][rows]


class PositiveSampler:
    """Draws one positive per anchor with a weight per kind of relative.

    Args:
        table: every (anchor, positive) pair, grouped by anchor.
        allowed: `[code]`; a code that is not allowed is neither anchor nor positive.
        weights: weight of each kind; pairs of kinds with weight 0 are left out.

    Raises:
        ConfigError: no anchor has a positive left.
    """

    def __init__(self, table: PositiveTable, allowed: BoolArray, weights: PositiveWeights) -> None:
        anchor = table.anchor
        weight = _pair_weights(table.relation, weights)
        keep = np.flatnonzero((weight > 0) & allowed[anchor] & allowed[table.positive])
        self.positive, self.relation = table.positive[keep], table.relation[keep]
        self.distance, self.margin = table.distance[keep], table.margin[keep]
        counts = np.bincount(anchor[keep], minlength=len(allowed))
        self._offsets = np.concatenate([[0], np.cumsum(counts)])
        self._cumulative = np.concatenate([[0.0], np.cumsum(weight[keep])])
        self.anchors = np.flatnonzero(counts)  # [anchor] int64: allowed, with a positive
        if not len(self.anchors):
            raise ConfigError(
                "no code has a positive: every kind that occurs has weight 0 or is held out",
                "set a kind in sampling.positives above 0",
            )
        dropped = int(allowed.sum()) - len(self.anchors)
        if dropped:
            log.info("sampler.no_positive", extra={"fields": {"dropped_anchors": dropped}})

    def draw(
        self, anchors: IntArray, draws: RowDraws
    ) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
        """Positives `[batch]` with relation, distance and margin, for rows of `self.anchors`."""
        first, after = self._offsets[anchors], self._offsets[anchors + 1]
        low, high = self._cumulative[first], self._cumulative[after]
        target = low + draws.uniform("positives", 1)[:, 0] * (high - low)
        row = np.searchsorted(self._cumulative, target, side="right") - 1
        row = np.clip(row, first, after - 1)  # rounding at the upper edge
        positive = self.positive[row].astype(np.int64)
        return positive, self.relation[row], self.distance[row], self.margin[row]


def _pair_weights(relation: IntArray, weights: PositiveWeights) -> FloatArray:
    """Weight `[pair]` of each pair by what the positive is to the anchor."""
    of_kind = {
        Relation.PARENT: weights.parent,
        Relation.ANCESTOR: weights.ancestor,
        Relation.CHILD: weights.child,
        Relation.DESCENDANT: weights.descendant,
        Relation.SIBLING: weights.sibling,
    }
    result = np.zeros(len(relation), dtype=np.float64)
    for kind, weight in of_kind.items():
        result[relation == int(kind)] = weight
    return result
