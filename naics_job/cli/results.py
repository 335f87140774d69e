"""How good a result is: a table beside the frozen encoder, and the same in plain words."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from naics_job.evaluation.metrics import LOWER_IS_BETTER

Metrics = Mapping[str, Mapping[str, float]]  # "all", "heldout", "search" -> metric -> value

MEANING = {
    "cophenetic": "correlation of distances with the tree",
    "spearman": "the same by rank",
    "ndcg@5": "near relatives among the 5 nearest",
    "ndcg@10": "near relatives among the 10 nearest",
    "ndcg@20": "near relatives among the 20 nearest",
    "map": "relatives before strangers",
    "parent@1": "nearest code one level up is the parent",
    "distortion": "mean error of a distance, lower is better",
}
SEARCH_MEANING = {
    "top@1": "the true six-digit code comes first",
    "top@5": "it is among the first five",
    "mrr": "mean of 1 / its place",
}
COLUMNS = (("all", "all codes"), ("heldout", "held-out codes"))


def result_lines(metrics: Metrics, baseline: Metrics, health: Mapping[str, object]) -> list[str]:
    """Return the table and the verdict.

    Args:
        metrics: of the trained embedding.
        baseline: of the encoder before any training, by cosine.
        health: checks of the embedding; `collapsed` and `on_manifold` are told when they are bad.
    """
    shown = [(key, title) for key, title in COLUMNS if metrics.get(key)]
    header = f"{'':<12}" + "".join(f"{title:>26}" for _, title in shown)
    names = f"{'metric':<12}" + f"{'trained':>15}{'frozen':>11}" * len(shown) + "   meaning"
    lines = [header, names]
    for name, meaning in MEANING.items():
        row = f"{name:<12}"
        for key, _ in shown:
            trained, frozen = _value(metrics, key, name), _value(baseline, key, name)
            row += f"{_shown(trained):>15}{_shown(frozen):>11}"
        lines.append(f"{row}   {meaning}")
    verdict = _verdict(metrics, baseline, health, shown)
    return [*lines, "", *_search_lines(metrics, baseline), "", *verdict]


def split_lines(metrics: Sequence[Metrics], baselines: Sequence[Metrics]) -> list[str]:
    """Means over several splits, each with its standard error.

    Args:
        metrics: of the trained embedding, one for each split.
        baselines: of the frozen encoder, in the same order.
    """
    shown = [*COLUMNS, ("search", "held-out index items")]
    lines = [f"{len(metrics)} splits: mean and standard error"]
    for key, title in shown:
        names = SEARCH_MEANING if key == "search" else MEANING
        if not metrics[0].get(key):
            continue
        lines += ["", f"{title:<22}{'trained':>18}{'frozen':>18}{'gain':>18}"]
        for name, meaning in names.items():
            trained = [_value(each, key, name) for each in metrics]
            frozen = [_value(each, key, name) for each in baselines]
            gains = [own - other for own, other in zip(trained, frozen, strict=True)]
            row = "".join(f"{_mean_shown(values):>18}" for values in (trained, frozen, gains))
            lines.append(f"{name:<22}{row}   {meaning}")
    return lines


def _mean_shown(values: Sequence[float]) -> str:
    found = np.array(values)
    error = found.std(ddof=1) / math.sqrt(len(found)) if len(found) > 1 else math.nan
    return f"{_shown(float(found.mean()))} +- {_shown(float(error))}"


def _search_lines(metrics: Metrics, baseline: Metrics) -> list[str]:
    """Text search as a table, or why there is none."""
    asked = _value(metrics, "search", "num_queries")
    if math.isnan(asked):
        return ["text search: not scored, these texts have no index items to hold out"]
    lines = [f"text search: {asked:.0f} held-out index items, each asked for its code"]
    for name, meaning in SEARCH_MEANING.items():
        trained, frozen = (_value(table, "search", name) for table in (metrics, baseline))
        lines.append(f"{name:<12}{_shown(trained):>15}{_shown(frozen):>11}   {meaning}")
    return lines


def _verdict(
    metrics: Metrics,
    baseline: Metrics,
    health: Mapping[str, object],
    shown: list[tuple[str, str]],
) -> list[str]:
    lines = []
    for key, title in shown:
        share = 100 * _value(metrics, key, "parent@1")
        line = f"{title}: the parent is nearest for {share:.0f} of 100; "
        lines.append(line + _comparison(metrics, baseline, key, MEANING))
    with_siblings = _value(metrics, "heldout", "parent@1_siblings")
    if not math.isnan(with_siblings):
        easy = 100 * (1 - _value(metrics, "heldout", "share_with_siblings"))
        frozen = 100 * _value(baseline, "heldout", "parent@1_siblings")
        lines.append(
            f"  {easy:.0f} of 100 held-out codes are only children whose parents share their "
            f"text; among the others the parent is nearest for {100 * with_siblings:.0f} of 100 "
            f"(frozen {frozen:.0f})"
        )
    if metrics.get("search"):
        share = 100 * _value(metrics, "search", "top@1")
        line = f"text search: the true code comes first for {share:.0f} of 100; "
        lines.append(line + _comparison(metrics, baseline, "search", SEARCH_MEANING))
    if health.get("collapsed"):
        lines.append("warning: the embedding has collapsed, codes lie almost on one spot")
    if health.get("on_manifold") is False:
        lines.append("warning: points have left the hyperboloid, distances are not to be trusted")
    return lines


def _comparison(metrics: Metrics, baseline: Metrics, key: str, names: Iterable[str]) -> str:
    gains = {name: _gain(metrics, baseline, key, name) for name in names}
    behind = [name for name, gain in gains.items() if not gain >= 0]  # or not known
    level = [name for name, gain in gains.items() if gain == 0]
    if behind:
        return f"not better than the frozen encoder in {', '.join(behind)}"
    if level:
        return f"better than the frozen encoder but for {', '.join(level)}, where both are equal"
    return "better than the frozen encoder in every metric"


def _value(metrics: Metrics, key: str, name: str) -> float:
    value = metrics.get(key, {}).get(name)
    return math.nan if value is None else float(value)


def _gain(metrics: Metrics, baseline: Metrics, key: str, name: str) -> float:
    """How much better than the baseline a metric is, NaN when one of them is not known."""
    gain = _value(metrics, key, name) - _value(baseline, key, name)
    return -gain if name in LOWER_IS_BETTER else gain


def _shown(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
