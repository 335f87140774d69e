"""Anchors with their positives: lineal relatives in both directions, and siblings.

The negatives of a triplet are drawn while training. Written out, (anchor, positive, negative) would
be hundreds of millions of rows for 2,125 codes.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from naics_job.config.schema import Config
from naics_job.data.contracts import TRIPLETS, BuildResult
from naics_job.data.derive import derive
from naics_job.data.relations import Relation, code_column
from naics_job.taxonomy.tree import IntArray, Taxonomy


@dataclass(frozen=True, eq=False)
class PositiveTable:
    """Positives grouped by anchor: those of anchor p are rows offsets[p] .. offsets[p + 1] - 1.

    Attributes:
        offsets: `[code + 1]` int64.
        positive: `[row]` int32 positions, ascending for each anchor.
        relation: `[row]` int8, a `Relation`: what the positive is to the anchor.
        distance: `[row]` int8, edges of the tree.
        margin: `[row]` float32, 1 / distance.
    """

    offsets: IntArray
    positive: IntArray
    relation: IntArray
    distance: IntArray
    margin: npt.NDArray[np.float32]

    @property
    def anchor(self) -> IntArray:
        """The anchor of each row, `[row]` int64."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


def positive_table(taxonomy: Taxonomy) -> PositiveTable:
    """All positives of every code; sectors are siblings of nobody, as they share no code."""
    below, above = _lineal_pairs(taxonomy)  # descendant, ancestor
    one, other = _sibling_pairs(taxonomy)
    anchor = np.concatenate([below, above, one])
    positive = np.concatenate([above, below, other])
    gap = taxonomy.depth[positive].astype(np.int16) - taxonomy.depth[anchor]  # below 0: upwards
    relation = np.select(
        [gap == 0, gap == -1, gap == 1, gap < 0],
        [Relation.SIBLING, Relation.PARENT, Relation.CHILD, Relation.ANCESTOR],
        Relation.DESCENDANT,
    )
    distance = np.where(gap == 0, 2, np.abs(gap))
    order = np.lexsort((positive, anchor))
    counts = np.bincount(anchor, minlength=len(taxonomy))
    return PositiveTable(
        offsets=np.concatenate(([0], np.cumsum(counts))),
        positive=positive[order].astype(np.int32),
        relation=relation[order].astype(np.int8),
        distance=distance[order].astype(np.int8),
        margin=(1.0 / distance[order]).astype(np.float32),
    )


def _lineal_pairs(taxonomy: Taxonomy) -> tuple[IntArray, IntArray]:
    """Every (descendant, ancestor) pair, `[pair]` int64 each."""
    descendants, ancestors = [], []
    for depth in range(1, taxonomy.max_depth):
        rows = np.flatnonzero(taxonomy.depth > depth)
        descendants.append(rows)
        ancestors.append(taxonomy.ancestors[rows, depth].astype(np.int64))
    empty = [np.empty(0, dtype=np.int64)]  # a taxonomy of sectors alone
    return np.concatenate(empty + descendants), np.concatenate(empty + ancestors)


def _sibling_pairs(taxonomy: Taxonomy) -> tuple[IntArray, IntArray]:
    """Every ordered pair of children of one code, `[pair]` int64 each."""
    rows = np.flatnonzero(taxonomy.parent >= 0)
    rows = rows[np.argsort(taxonomy.parent[rows], kind="stable")]  # families together
    _, first, size = np.unique(taxonomy.parent[rows], return_index=True, return_counts=True)
    family_size = np.repeat(size, size)  # of each row
    one = np.repeat(rows, family_size)
    start = np.repeat(np.repeat(first, size), family_size)  # of the family, for each pair
    within = np.arange(len(one)) - np.repeat(np.cumsum(family_size) - family_size, family_size)
    other = rows[start + within]
    return one[one != other], other[one != other]


def triplet_table(taxonomy: Taxonomy, descriptions: pa.Table) -> pa.Table:
    """The table of the TRIPLETS contract; `descriptions` holds nothing it needs."""
    positives = positive_table(taxonomy)
    columns = {
        "anchor": pa.array(positives.anchor, pa.int32()),
        "positive": pa.array(positives.positive),
        "anchor_code": code_column(taxonomy, positives.anchor),
        "positive_code": code_column(taxonomy, positives.positive),
        "relation": pa.array(positives.relation),
        "distance": pa.array(positives.distance),
        "margin": pa.array(positives.margin),
    }
    return pa.table(columns, schema=TRIPLETS.schema)


def positives_from(table: pa.Table, num_codes: int) -> PositiveTable:
    """The positives of a table of the TRIPLETS contract, whose rows are sorted by anchor."""
    counts = np.bincount(table["anchor"].to_numpy(), minlength=num_codes)
    return PositiveTable(
        offsets=np.concatenate(([0], np.cumsum(counts))),
        positive=table["positive"].to_numpy(),
        relation=table["relation"].to_numpy(),
        distance=table["distance"].to_numpy(),
        margin=table["margin"].to_numpy(),
    )


def build_triplets(config: Config, *, force: bool = False) -> BuildResult:
    """`data triplets`: every anchor with each of its positives."""
    return derive(config, TRIPLETS, triplet_table, force=force)
