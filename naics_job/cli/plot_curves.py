"""Plots over optimizer steps: losses by term with SADC phases, metrics with their baseline."""

import math
from typing import Any

import numpy as np

from naics_job.cli.plot_style import HELDOUT, MUTED, PHASE_TINTS, TRAINED, new_figure
from naics_job.cli.results import MEANING
from naics_job.curriculum.schedule import Phase
from naics_job.evaluation.metrics import LOWER_IS_BETTER
from naics_job.loss.objective import TERMS
from naics_job.training.past_run import PastRun, Series

COLUMNS = 3
TITLES = {
    "total": "total (weighted sum)",
    "contrastive": "contrastive",
    "hierarchy": "hierarchy (tree distance)",
    "rank_order": "rank order",
    "radius": "radius",
    "load_balance": "load balance of the experts",
    "attract": "attraction of false negatives",
}
GROUPS = (("all", "all codes", TRAINED, "o"), ("heldout", "held-out codes", HELDOUT, "s"))
SMOOTH_OVER = 15  # a running median of a fifteenth of the points


def loss_figure(run: PastRun) -> Any | None:
    """One panel per loss term, before its weight; None when the run has logged no loss."""
    names = [name for name in ("total", *TERMS) if f"train/{name}" in run.series]
    if not names:
        return None
    figure, axes = _panels(len(names))
    for name, axis in zip(names, axes, strict=False):
        series = run.series[f"train/{name}"]
        axis.plot(series.steps, series.values, color=TRAINED, alpha=0.35, linewidth=1)
        axis.plot(series.steps, _smoothed(series), color=TRAINED, linewidth=2)
        axis.set_title(TITLES.get(name, name))
        _bands(axis, run)
    figure.suptitle(f"Losses of run {run.run_id}", x=0.01, ha="left", weight="bold", size=14)
    handles = [_line(TRAINED, "logged", alpha=0.35), _line(TRAINED, "running median")]
    figure.legend(handles=[*handles, *_band_handles(run)], loc="outside lower center", ncols=6)
    return figure


def metric_figure(run: PastRun) -> Any | None:
    """One panel per metric, all and held-out codes; None when the run has not been evaluated."""
    names = [name for name in MEANING if f"all/{name}" in run.series]
    if not names:
        return None
    figure, axes = _panels(len(names))
    for name, axis in zip(names, axes, strict=False):
        for group, _, color, marker in GROUPS:
            _metric(axis, run, f"{group}/{name}", color, marker)
            value = run.baseline.get(group, {}).get(name)
            if value is not None and math.isfinite(value):
                axis.axhline(value, color=color, linestyle="--", linewidth=1.2, alpha=0.8)
        better = "lower is better" if name in LOWER_IS_BETTER else "higher is better"
        axis.set_title(f"{name}  ({better})")
        axis.set_xlim(left=0)
        _bands(axis, run)
    title = f"Quality during run {run.run_id}"
    figure.suptitle(title, x=0.01, ha="left", weight="bold", size=14)
    figure.legend(handles=_metric_handles(run), loc="outside lower center", ncols=4)
    return figure


def _metric(axis: Any, run: PastRun, name: str, color: str, marker: str) -> None:
    series = run.series.get(name)
    if series is None:
        return
    axis.plot(series.steps, series.values, color=color, marker=marker, markersize=4.5)
    last = float(series.values[-1])
    place = {"xytext": (5, 0), "textcoords": "offset points", "va": "center", "size": 8}
    axis.annotate(f"{last:.2f}", (series.steps[-1], last), color=color, **place)
    axis.margins(x=0.12)


def _panels(count: int) -> tuple[Any, list[Any]]:
    rows = math.ceil(count / COLUMNS)
    figure = new_figure(4.2 * COLUMNS, 2.7 * rows + 1)
    grid = figure.subplots(rows, COLUMNS, squeeze=False)
    axes = list(grid.flat)
    for axis in axes[count:]:
        axis.set_visible(False)
    for axis in axes[max(0, count - COLUMNS) : count]:
        axis.set_xlabel("optimizer step")
    return figure, axes


def _smoothed(series: Series) -> Any:
    half = max(1, len(series.values) // SMOOTH_OVER) // 2 + 1
    spans = [slice(max(0, at - half), at + half + 1) for at in range(len(series.values))]
    return [np.nanmedian(series.values[span]) if _any(series, span) else np.nan for span in spans]


def _any(series: Series, span: slice) -> bool:
    return bool(np.isfinite(series.values[span]).any())


def _bands(axis: Any, run: PastRun) -> None:
    left, right = axis.get_xlim()
    bands = run.bands
    for number, band in enumerate(bands):
        after = bands[number + 1].first_step if number + 1 < len(bands) else right
        first = band.first_step if number else left
        axis.axvspan(first, after, color=PHASE_TINTS[band.phase], linewidth=0, zorder=0)
    axis.set_xlim(left, right)


def _band_handles(run: PastRun) -> list[Any]:
    from matplotlib.patches import Patch

    phases = sorted({band.phase for band in run.bands})
    return [
        Patch(facecolor=PHASE_TINTS[p], edgecolor="#BBBBBB", label=f"phase {p}: {Phase(p).title}")
        for p in phases
    ]


def _metric_handles(run: PastRun) -> list[Any]:
    shown = [group for group in GROUPS if any(n.startswith(f"{group[0]}/") for n in run.series)]
    handles = [_line(color, title, marker=marker) for _, title, color, marker in shown]
    if run.baseline:
        handles.append(_line(MUTED, "dashed: the frozen encoder", linestyle="--"))
    return [*handles, *_band_handles(run)]


def _line(color: str, label: str, **style: Any) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=color, label=label, **style)
