"""The relation of every pair of codes of one sector: child, sibling, cousin, ..."""

from enum import IntEnum

import numpy as np
import pyarrow as pa

from naics_job.config.schema import Config
from naics_job.data.contracts import CODE_NAME, RELATIONS, BuildResult
from naics_job.data.derive import derive
from naics_job.taxonomy.tree import IntArray, Taxonomy

MAX_STEPS = 16  # above any number of levels; makes one number of (steps up, steps down)


class Relation(IntEnum):
    """What the second code of a pair is to the first."""

    PARENT = 1
    CHILD = 2
    ANCESTOR = 3  # two or more levels up
    DESCENDANT = 4  # two or more levels down
    SIBLING = 5
    NEPHEW = 6  # a sibling's descendant
    UNCLE = 7  # an ancestor's sibling
    COUSIN = 8  # same level, parents differ
    COUSIN_REMOVED = 9  # parents differ, levels differ


def relation_of(up: IntArray, down: IntArray) -> IntArray:
    """Relation id `[n]` int8 from the steps `up` to the common ancestor and `down` to the other."""
    cases = [
        ((up == 1) & (down == 0), Relation.PARENT),
        ((up == 0) & (down == 1), Relation.CHILD),
        (down == 0, Relation.ANCESTOR),
        (up == 0, Relation.DESCENDANT),
        ((up == 1) & (down == 1), Relation.SIBLING),
        (up == 1, Relation.NEPHEW),
        (down == 1, Relation.UNCLE),
        (up == down, Relation.COUSIN),
    ]
    conditions, kinds = zip(*cases, strict=True)
    ids = np.select(conditions, [int(kind) for kind in kinds], int(Relation.COUSIN_REMOVED))
    return ids.astype(np.int8)


def relation_name(up: int, down: int) -> str:
    """The relation in full, in the words of kinship: "grandchild", "second cousin once removed"."""
    if up == 0 or down == 0:
        return _great(max(up, down) - 2, "grand", "child" if up == 0 else "parent")
    if up == 1 and down == 1:
        return "sibling"
    if up == 1 or down == 1:
        return _great(max(up, down) - 3, "grand-", "nephew" if up == 1 else "uncle")
    degree = min(up, down) - 1
    ordinal = {1: "cousin", 2: "second cousin", 3: "third cousin"}.get(degree, f"{degree}th cousin")
    removed = abs(up - down)
    times = {1: "once", 2: "twice"}.get(removed, f"{removed} times")
    return f"{ordinal} {times} removed" if removed else ordinal


def _great(greats: int, grand: str, word: str) -> str:
    return word if greats < 0 else "great-" * greats + grand + word


def sector_pairs(taxonomy: Taxonomy) -> tuple[IntArray, IntArray]:
    """Positions a < b, each `[pair]` int32, of all unordered pairs inside one (merged) sector."""
    firsts, seconds = [], []
    for begin in np.flatnonzero(taxonomy.parent < 0).tolist():
        a, b = np.triu_indices(int(taxonomy.subtree_end[begin]) - begin, k=1)
        firsts.append((a + begin).astype(np.int32))
        seconds.append((b + begin).astype(np.int32))
    return np.concatenate(firsts), np.concatenate(seconds)


def steps(taxonomy: Taxonomy, a: IntArray, b: IntArray) -> tuple[IntArray, IntArray]:
    """Edges from `a` up to the lowest common ancestor and from there down to `b`, `[pair]` each."""
    distance = taxonomy.pair_distance(a, b)
    difference = taxonomy.depth[a].astype(np.int16) - taxonomy.depth[b]
    return (distance + difference) // 2, (distance - difference) // 2


def code_column(taxonomy: Taxonomy, positions: IntArray) -> pa.DictionaryArray:
    """The codes at `positions` as a dictionary column."""
    names = pa.array(taxonomy.codes, pa.string())
    return pa.DictionaryArray.from_arrays(pa.array(positions, CODE_NAME.index_type), names)


def pair_columns(taxonomy: Taxonomy, a: IntArray, b: IntArray) -> dict[str, pa.Array]:
    """The four columns that name a pair in the tables of relations and distances."""
    return {
        "a": pa.array(a, pa.int32()),
        "b": pa.array(b, pa.int32()),
        "code_a": code_column(taxonomy, a),
        "code_b": code_column(taxonomy, b),
    }


def relation_table(taxonomy: Taxonomy, descriptions: pa.Table) -> pa.Table:
    """The table of the RELATIONS contract; `descriptions` holds nothing it needs."""
    a, b = sector_pairs(taxonomy)
    up, down = steps(taxonomy, a, b)
    kinds, name_of_pair = np.unique(up * MAX_STEPS + down, return_inverse=True)
    names = [relation_name(*divmod(int(kind), MAX_STEPS)) for kind in kinds]
    columns = {
        **pair_columns(taxonomy, a, b),
        "relation_id": pa.array(relation_of(up, down), pa.int8()),
        "relation": pa.DictionaryArray.from_arrays(
            pa.array(name_of_pair.astype(np.int8)), pa.array(names, pa.string())
        ),
    }
    return pa.table(columns, schema=RELATIONS.schema)


def build_relations(config: Config, *, force: bool = False) -> BuildResult:
    """`data relations`: one row per pair of codes of one sector."""
    return derive(config, RELATIONS, relation_table, force=force)
