"""Three disjoint splits of the codes, drawn by whole families.

A family is the parent of six-digit codes (a five-digit code) with all its children. It is held out
whole: half of the five-digit codes have one child, with the same title and description, so a split
by single codes would train on the text of what it holds out.
"""

from dataclasses import dataclass

import numpy as np

from naics_job.data.sampler import FloatArray, step_rng
from naics_job.errors import ConfigError
from naics_job.taxonomy.tree import BoolArray, IntArray, Taxonomy


@dataclass(frozen=True)
class Splits:
    """Sorted positions; every code is in exactly one of the three.

    Attributes:
        train: `[n]` int64: the families that are not held out, and every code above a family, also
            where all six-digit codes below it are held out.
        validation: `[n]` int64, whole families, for early stopping, interpolation and calibration.
        test: `[n]` int64, whole families, to be reported once.
    """

    train: IntArray
    validation: IntArray
    test: IntArray

    def held(self) -> BoolArray:
        """`[code]`: the codes of validation and test."""
        held = np.ones(len(self.train) + len(self.validation) + len(self.test), dtype=bool)
        held[self.train] = False
        return held


@dataclass(frozen=True)
class _Families:
    """Six-digit codes by family, `[family]`, in the order that they are drawn in."""

    parent: IntArray
    sector: IntArray
    size: IntArray


def split_families(taxonomy: Taxonomy, val_split: float, test_split: float, seed: int) -> Splits:
    """Draw validation and test, each a share of the six-digit codes, family by family.

    A share is spread over sectors in proportion to their six-digit codes (largest remainder). A
    sector gives families, in random order, until its number is met as nearly as whole families
    allow; what it gives too few or too many is made up for by the sectors after it. One family of
    every sector is always trained. A share of 0 gives an empty split, a share above 0 at least one
    family. Test is drawn first: it does not depend on `val_split`.

    Raises:
        ConfigError: the shares leave nothing to train, or no family can be spared for one of them.
    """
    if min(val_split, test_split) < 0 or val_split + test_split >= 1:
        raise ConfigError(
            f"shares of {val_split} for validation and {test_split} for test leave no training",
            "make both 0 or more, and their sum less than 1",
        )
    families = _families(taxonomy, step_rng(seed, 0, 0, "families"))
    spare = _all_but_the_last(families.sector)  # [family]
    test = _draw(families, spare, test_split)
    validation = _draw(families, spare & ~test, val_split)
    held = [_members(taxonomy, families.parent[chosen]) for chosen in (validation, test)]
    train = np.setdiff1d(np.arange(len(taxonomy)), np.concatenate(held))
    return Splits(train=train, validation=held[0], test=held[1])


def _families(taxonomy: Taxonomy, rng: np.random.Generator) -> _Families:
    leaves = taxonomy.six_digit()
    above = taxonomy.parent[leaves].astype(np.int64)
    parent, size = np.unique(np.where(above < 0, leaves, above), return_counts=True)
    order = rng.permutation(len(parent))
    parent, size = parent[order], size[order]
    return _Families(parent=parent, sector=taxonomy.ancestors[parent, 1], size=size)


def _all_but_the_last(sector: IntArray) -> BoolArray:
    """`[family]`: False for the last family of each sector, which is never held out."""
    _, last = np.unique(sector[::-1], return_index=True)
    spare = np.ones(len(sector), dtype=bool)
    spare[len(sector) - 1 - last] = False
    return spare


def _draw(families: _Families, spare: BoolArray, share: float) -> BoolArray:
    """`[family]`: the families of one split, out of those that can be spared."""
    chosen = np.zeros(len(spare), dtype=bool)
    if share <= 0:
        return chosen
    if not spare.any():
        raise ConfigError(
            f"no family is left to hold out for a share of {share}: every sector keeps one",
            "set the share to 0, or take more codes (data.max_codes, data.sectors)",
        )
    owed = 0.0  # six-digit codes that the sectors before gave too few
    for sector, quota in zip(*_quotas(families, share), strict=True):
        owed += quota
        for family in np.flatnonzero(spare & (families.sector == sector)):
            size = families.size[family]
            if abs(owed - size) >= abs(owed):  # further off with it than without
                break
            chosen[family] = True
            owed -= size
    if not chosen.any():
        smallest = np.flatnonzero(spare)[np.argmin(families.size[spare])]
        chosen[smallest] = True
    return chosen


def _quotas(families: _Families, share: float) -> tuple[IntArray, FloatArray]:
    """Sectors, and how many six-digit codes each is to give: `[sector]`."""
    sectors, inverse = np.unique(families.sector, return_inverse=True)
    sizes = np.bincount(inverse, weights=families.size)
    wanted = max(1, round(share * sizes.sum()))
    ideal = wanted * sizes / sizes.sum()
    quota = np.floor(ideal)
    by_remainder = np.argsort(quota - ideal, kind="stable")
    quota[by_remainder[: int(wanted - quota.sum())]] += 1
    return sectors, quota


def _members(taxonomy: Taxonomy, parents: IntArray) -> IntArray:
    """Sorted positions `[n]` int64 of the families: each parent and its children."""
    at = np.zeros(len(taxonomy), dtype=bool)
    for first in parents:
        at[first : taxonomy.subtree_end[first]] = True
    return np.flatnonzero(at)
