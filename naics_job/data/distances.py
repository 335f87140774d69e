"""The tree distance of every pair of codes of one sector, and whether one excludes the other."""

import numpy as np
import pyarrow as pa

from naics_job.config.schema import Config
from naics_job.data.contracts import DISTANCES, BuildResult
from naics_job.data.derive import derive
from naics_job.data.relations import pair_columns, sector_pairs
from naics_job.taxonomy.tree import BoolArray, IntArray, Taxonomy


def exclusion_lists(
    taxonomy: Taxonomy, excluded_codes: list[list[str]]
) -> tuple[IntArray, IntArray]:
    """Explicit exclusions of each code as offsets `[code + 1]` int64 and positions `[n]` int32.

    `excluded_codes` is in taxonomy order. Ancestors, descendants and the code itself drop out: a
    text that mentions them does not exclude them. Codes outside the taxonomy drop out as well.
    """
    known = {code: position for position, code in enumerate(taxonomy.codes)}
    pairs = [
        (row, known[code])
        for row, codes in enumerate(excluded_codes)
        for code in codes
        if code in known
    ]
    anchor, other = np.array(sorted(set(pairs)), dtype=np.int64).reshape(-1, 2).T
    inside = (anchor <= other) & (other < taxonomy.subtree_end[anchor])
    inside |= (other <= anchor) & (anchor < taxonomy.subtree_end[other])
    anchor, other = anchor[~inside], other[~inside]
    counts = np.bincount(anchor, minlength=len(taxonomy))
    return np.concatenate(([0], np.cumsum(counts))), other.astype(np.int32)


def exclusion_flags(
    taxonomy: Taxonomy, exclusions: tuple[IntArray, IntArray], a: IntArray, b: IntArray
) -> BoolArray:
    """Whether `a` excludes `b` or `b` excludes `a`, `[pair]` bool."""
    offsets, others = exclusions
    anchors = np.repeat(np.arange(len(taxonomy)), np.diff(offsets))
    low, high = np.minimum(anchors, others), np.maximum(anchors, others)
    size = np.int64(len(taxonomy))
    flags: BoolArray = np.isin(a.astype(np.int64) * size + b, low * size + high)
    return flags


def distance_table(taxonomy: Taxonomy, descriptions: pa.Table) -> pa.Table:
    """The table of the DISTANCES contract."""
    a, b = sector_pairs(taxonomy)
    exclusions = exclusion_lists(taxonomy, descriptions["excluded_codes"].to_pylist())
    columns = {
        **pair_columns(taxonomy, a, b),
        "distance": pa.array(taxonomy.pair_distance(a, b).astype(np.int8)),
        "excluded": pa.array(exclusion_flags(taxonomy, exclusions, a, b)),
    }
    return pa.table(columns, schema=DISTANCES.schema)


def build_distances(config: Config, *, force: bool = False) -> BuildResult:
    """`data distances`: the pairs of `data relations` with their tree distance."""
    return derive(config, DISTANCES, distance_table, force=force)
