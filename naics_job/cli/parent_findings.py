"""Sentences about codes with a wrong nearest parent, and what the text alone says of them."""

import numpy as np

from naics_job.cli.evidence import Evidence
from naics_job.cli.findings import MARK, marked
from naics_job.evaluation.breakdown import mean
from naics_job.taxonomy.tree import BoolArray

NUM_EXAMPLES = 8


def parent_findings(evidence: Evidence) -> list[str]:
    """How far wrong parents are from the right ones, and the clearest mistakes."""
    taxonomy, parents = evidence.taxonomy, evidence.parents
    wrong = parents.wrong(taxonomy)
    total, count = len(wrong), int(wrong.sum())
    if not count:
        return ["the nearest code one level up is the parent for every code"]
    lines = [f"{count:,} of {total:,} codes have a wrong nearest parent"]
    away = parents.misplaced_by(taxonomy)[wrong]
    for edges, number in zip(*np.unique(away, return_counts=True), strict=True):
        lines.append(f"  {number:>5,} ({number / count:.0%}): {_relation(int(edges))}")
    outside = _other_sector(evidence, wrong)
    lines.append(f"  {int(outside.sum()):>5,} ({outside.mean():.0%}) lie in another sector")
    lines.append("farthest beyond the wrong parent:")
    order = np.argsort(-np.where(wrong, parents.excess, -1.0))[: min(NUM_EXAMPLES, count)]
    for row in order.tolist():
        code, near = int(parents.codes[row]), int(parents.nearest[row])
        right = int(taxonomy.parent[code])
        lines.append(
            f"  {_name(evidence, code)}: nearest {_name(evidence, near)}, right "
            f"{_name(evidence, right)}, {parents.excess[row]:.2f} farther"
        )
    return lines


def text_findings(evidence: Evidence) -> list[str]:
    """Whether the untrained encoder confuses the same codes."""
    if evidence.frozen is None:
        return []
    taxonomy, trained, frozen = evidence.taxonomy, evidence.parents, evidence.frozen.parents
    wrong, before = trained.wrong(taxonomy), frozen.wrong(taxonomy)
    both = wrong & before
    same = both & (trained.nearest == frozen.nearest)
    count = max(1, int(wrong.sum()))
    mended, broken = int((before & ~wrong).sum()), int((wrong & ~before).sum())
    if not wrong.any() and not before.any():
        return ["the untrained encoder has no wrong parent either"]
    lines = [
        f"of {int(wrong.sum()):,} wrong parents the untrained encoder has {int(both.sum()):,} "
        f"wrong as well ({both.sum() / count:.0%}), {int(same.sum()):,} of them the same one: "
        "there the texts themselves mislead",
        f"training mended {mended:,} parents and broke {broken:,}",
    ]
    if broken > mended:
        lines[-1] = MARK + lines[-1]
    before_ndcg, after_ndcg = evidence.frozen.scores.ndcg[10], evidence.scores.ndcg[10]
    better = float((after_ndcg > before_ndcg).mean())
    text = (
        f"NDCG@10 of the untrained encoder is {mean(before_ndcg):.3f}; training raised it for "
        f"{better:.0%} of the codes, not for the others, and is at {mean(after_ndcg):.3f}"
    )
    return [*lines, marked(mean(after_ndcg) < mean(before_ndcg), text)]


def _other_sector(evidence: Evidence, wrong: BoolArray) -> BoolArray:
    taxonomy, parents = evidence.taxonomy, evidence.parents
    sector = taxonomy.ancestors[:, 1]
    outside: BoolArray = sector[parents.nearest[wrong]] != sector[parents.codes[wrong]]
    return outside


def _relation(edges: int) -> str:
    if edges == 2:
        return "the wrong parent is a sibling of the right one"
    return f"the wrong parent is {edges} edges from the right one"


def _name(evidence: Evidence, position: int) -> str:
    return f"{evidence.taxonomy.codes[position]} {evidence.taxonomy.titles[position]}"
