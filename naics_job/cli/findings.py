"""Sentences with numbers about a run's errors. A line that starts with MARK passes a threshold."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from naics_job.cli.evidence import Evidence
from naics_job.data.contracts import CHANNELS
from naics_job.evaluation.breakdown import (
    Contrast,
    DistanceRow,
    Fit,
    GroupRow,
    by_group,
    by_tree_distance,
    contrast,
    mean,
)
from naics_job.taxonomy.codes import sector_of

MARK = "-> "
WEAK = {"cophenetic": 0.90, "spearman": 0.88, "ndcg@10": 0.92, "parent@1": 0.90}
SATURATED_SHARE = 0.25  # of the median growth per edge
SEPARATED = 0.75  # chance that a pair one edge farther in the tree is farther apart
NOTABLE = 0.05  # difference of two mean scores
NOTABLE_ERRORS = 2.0  # and of that many standard errors
MIN_CODES = 10  # in a group that is compared
NUM_WORST = 5


def standing(evidence: Evidence, fit: Fit, rank_fit: Fit) -> list[str]:
    """Which metrics are weak."""
    scores = evidence.scores
    found = {
        "cophenetic": fit.correlation,
        "spearman": rank_fit.correlation,
        "ndcg@10": mean(scores.ndcg[10]),
        "parent@1": mean(scores.parent_hit),
    }
    lines = []
    for name, value in found.items():
        weak = value < WEAK[name]
        verdict = "weak, below" if weak else "not weak, at least"
        lines.append(marked(weak, f"{name} {value:.3f}: {verdict} {WEAK[name]:.2f}"))
    return lines


def distance_findings(evidence: Evidence, fit: Fit, rank_fit: Fit) -> list[str]:
    """Mean and spread of the distances at each tree distance; saturation and overlap."""
    rows = by_tree_distance(evidence.pairs)
    lines = [f"{'edges':>7}{'pairs':>12}{'mean':>8}{'std':>8}{'beyond the row above':>23}"]
    for row in rows:
        above = "" if np.isnan(row.above_previous) else f"{100 * row.above_previous:.0f} of 100"
        numbers = f"{row.tree_distance:>7}{row.pairs:>12,}{row.mean:>8.2f}{row.std:>8.2f}"
        lines.append(f"{numbers}{above:>23}")
    for name, found in (("cophenetic", fit), ("spearman", rank_fit)):
        unexplained = 1 - found.correlation**2
        lines.append(
            f"{name}: {unexplained:.1%} of the variance is unexplained; {found.spread:.1%} because "
            f"pairs at the same tree distance differ, {found.bend:.1%} because their means do not "
            "lie on a line"
        )
    return lines + _saturation(rows) + _overlap(rows)


def _saturation(rows: Sequence[DistanceRow]) -> list[str]:
    if len(rows) < 3:
        return []
    growth = [(b.mean - a.mean) / (b.tree_distance - a.tree_distance) for a, b in pairwise(rows)]
    usual = float(np.median(growth))
    flat = [
        f"{a.tree_distance} to {b.tree_distance} ({g:+.2f})"
        for (a, b), g in zip(pairwise(rows), growth, strict=True)
        if g < SATURATED_SHARE * usual
    ]
    rule = f"below {SATURATED_SHARE:.0%} of the median growth of {usual:.2f} per edge"
    if not flat:
        return [f"no saturation: no step of the mean distance is {rule}"]
    return [f"{MARK}saturated where the mean distance hardly grows, {rule}: {', '.join(flat)}"]


def _overlap(rows: Sequence[DistanceRow]) -> list[str]:
    mixed = [
        f"{a.tree_distance} and {b.tree_distance} ({100 * b.above_previous:.0f} of 100)"
        for a, b in pairwise(rows)
        if b.above_previous < SEPARATED
    ]
    rule = f"the farther pair is farther apart in less than {100 * SEPARATED:.0f} of 100 cases"
    if not mixed:
        return ["every tree distance is told from the next one"]
    return [f"{MARK}tree distances that are mixed up ({rule}): {', '.join(mixed)}"]


def level_findings(evidence: Evidence, fit: Fit, rank_fit: Fit) -> list[str]:
    """Errors by the level of the codes."""
    labels = [f"{level} digits" for level in evidence.taxonomy.level.tolist()]
    rows, ranks = (_groups(evidence, found, labels) for found in (fit, rank_fit))
    lines = [*_group_table(rows, ranks), ""]
    for name, value in (("parent@1", _parent_hit), ("NDCG@10", _ndcg)):
        known = [row for row in rows if not np.isnan(value(row)) and row.codes >= MIN_CODES]
        if known:
            worst = min(known, key=value)
            text = f"lowest {name}: {value(worst):.3f} of {worst.codes:,} codes of {worst.name}"
            lines.append(marked(value(worst) < WEAK[name.lower()], text))
    return lines


def sector_findings(evidence: Evidence, fit: Fit, rank_fit: Fit) -> list[str]:
    """The sectors with most error for their number of pairs, and with most wrong parents."""
    labels = [sector_of(code) for code in evidence.taxonomy.codes]
    rows, ranks = (_groups(evidence, found, labels) for found in (fit, rank_fit))
    by_name = {row.name: row for row in ranks}
    large = [row for row in rows if row.codes >= MIN_CODES]
    if len(large) < 2:
        return [f"fewer than two sectors of {MIN_CODES} codes: nothing to compare"]
    lines = [f"most distance error for their share of pairs ({NUM_WORST} of {len(large)} sectors):"]
    worst = sorted(large, key=lambda row: -row.error_share / row.pair_share)[:NUM_WORST]
    lines += _group_table(worst, [by_name[row.name] for row in worst])
    hits = sorted((row for row in large if not np.isnan(row.parent_hit)), key=_parent_hit)
    lines += ["", "most wrong parents:"]
    lines += _group_table(hits[:NUM_WORST], [by_name[row.name] for row in hits[:NUM_WORST]])
    titles = {row.name: None for row in [*worst, *hits[:NUM_WORST]]}
    named = [f"{name} {_title(evidence, name)}" for name in titles]
    return [*lines, "sectors: " + "; ".join(named)]


def channel_findings(evidence: Evidence) -> list[str]:
    """Whether codes that lack a channel do worse than those of the same level that have it."""
    if evidence.present is None:
        return []
    lines, compared = [], 0
    level = evidence.taxonomy.level
    measures = {"parent@1": evidence.scores.parent_hit, "NDCG@10": evidence.scores.ndcg[10]}
    for column, channel in enumerate(CHANNELS):
        has = evidence.present[:, column]
        lines.append(f"{channel}: {int(has.sum()):,} of {len(has):,} codes have it")
        for digits in np.unique(level).tolist():
            for name, score in measures.items():
                found = contrast(score, has, level == digits)
                if min(found.with_count, found.without_count) >= MIN_CODES:
                    compared += 1
                    where = f"{digits}-digit codes without {channel}: {name}"
                    lines += _contrast_lines(found, where, only_notable=True)
    rule = f"{NOTABLE} and {NOTABLE_ERRORS:g} standard errors, {MIN_CODES} codes on each side"
    return [*lines, f"{compared} comparisons within a level; told are differences above {rule}"]


def heldout_findings(evidence: Evidence, fit: Fit) -> list[str]:
    """The codes of the test split beside the training codes of the same levels."""
    if not len(evidence.heldout):
        return ["no codes were held out to be reported (data_loader.test_split=0)"]
    unseen, taxonomy = evidence.is_heldout, evidence.taxonomy
    same_level = np.isin(taxonomy.level, np.unique(taxonomy.level[unseen]))
    same_level &= unseen | evidence.is_trained  # validation codes are neither
    lines = []
    measures = {"parent@1": evidence.scores.parent_hit, "NDCG@10": evidence.scores.ndcg[10]}
    for name, score in measures.items():
        found = contrast(score, ~unseen, same_level)
        lines += _contrast_lines(found, f"held-out codes: {name}", only_notable=False)
    labels = np.where(unseen, "held out", np.where(same_level, "trained", "others"))
    rows = {row.name: row for row in _groups(evidence, fit, labels.tolist())}
    held = rows["held out"]
    ratio = held.error_share / max(held.pair_share, 1e-12)
    text = (
        f"held-out codes are in {held.pair_share:.1%} of the pair ends and carry "
        f"{held.error_share:.1%} of the distance error, {ratio:.1f} times their share"
    )
    return [*lines, text]


def _groups(evidence: Evidence, fit: Fit, labels: Sequence[str]) -> list[GroupRow]:
    scores = evidence.scores
    return by_group(evidence.pairs, fit.error, labels, scores.parent_hit, scores.ndcg[10])


def _group_table(rows: Sequence[GroupRow], ranks: Sequence[GroupRow]) -> list[str]:
    """`ranks` are the same groups with the error of the Spearman correlation."""
    titles = ("codes", "pair ends", "cophenetic err", "spearman err", "parent@1", "NDCG@10")
    lines = [f"{'':>10}" + "".join(f"{title:>16}" for title in titles)]
    for row, rank in zip(rows, ranks, strict=True):
        shares = (row.pair_share, row.error_share, rank.error_share)
        numbers = [f"{row.codes:,}", *(f"{share:.1%}" for share in shares)]
        numbers += ["-" if np.isnan(v) else f"{v:.3f}" for v in (row.parent_hit, row.ndcg)]
        lines.append(f"{row.name:>10}" + "".join(f"{number:>16}" for number in numbers))
    return lines


def _contrast_lines(found: Contrast, what: str, only_notable: bool) -> list[str]:
    difference = found.difference
    notable = abs(difference) > max(NOTABLE, NOTABLE_ERRORS * found.standard_error)
    if only_notable and not notable:
        return []
    text = (
        f"{what} {found.without_mean:.3f} ({found.without_count:,} codes), of the others "
        f"{found.with_mean:.3f} ({found.with_count:,}); difference {difference:+.3f} +- "
        f"{found.standard_error:.3f}"
    )
    return [marked(notable and difference < 0, text)]


def _title(evidence: Evidence, code: str) -> str:
    return evidence.taxonomy.titles[evidence.taxonomy.position(code)]


def _parent_hit(row: GroupRow) -> float:
    return row.parent_hit


def _ndcg(row: GroupRow) -> float:
    return row.ndcg


def marked(passes: bool, text: str) -> str:
    """`text`, with MARK in front when it passes a threshold."""
    return MARK + text if passes else text
