"""The page about metrics, from their catalogue: `python -m naics_job.observability.document`."""

import sys

from naics_job.observability.metrics import (
    APPLIES,
    CONSTANT_LABELS,
    MAX_SERIES,
    METRICS,
    TIME_BUCKETS,
    Metric,
)

HEAD = """\
# Metrics

Generated from `naics_job/observability/metrics.py` by `make docs`; a test compares the two.

Each process of a run answers at `metrics.port` + its local rank: `/metrics` (Prometheus text, or
OpenMetrics where the `Accept` header asks for it), `/healthz` (503 once there was no sign of
progress for `metrics.stall_s`, or `metrics.start_s` while it starts or waits) and `/readyz` (200
after the first step). Every series has the labels {labels}: `gpu` is the number of the CUDA
device as the process sees it, or `none`. A process has at most {series} series. Nothing is shown
before the run is known.

Ages and durations are taken with a clock that only goes forward; names with `timestamp` are Unix
times. Numbers may be `NaN` or infinite where training's are. Histograms have the bounds
{bounds} s.
"""


def page() -> str:
    """The text of docs/metrics.md."""
    labels = ", ".join(f"`{label}`" for label in CONSTANT_LABELS)
    bounds = ", ".join(f"{bound:g}" for bound in TIME_BUCKETS)
    parts = [HEAD.format(labels=labels, series=MAX_SERIES, bounds=bounds)]
    for key, where in APPLIES.items():
        rows = [_row(metric) for metric in METRICS if metric.applies == key]
        heading = f"## {where[0].upper()}{where[1:]}"
        table = ["| metric | type | unit | own labels | meaning |", "|---|---|---|---|---|", *rows]
        parts.append("\n".join([heading, "", *table, ""]))
    return "\n".join(parts)


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    cells = (f"`{metric.name}`", metric.kind, metric.unit, labels, metric.help)
    return "".join(f"| {cell} " if cell else "| " for cell in cells) + "|"


if __name__ == "__main__":
    sys.stdout.write(page())
