"""Rules of the catalogue, and the page that is generated from it."""

import re
from collections import Counter
from pathlib import Path

import pytest

from naics_job.observability.document import page
from naics_job.observability.metrics import (
    APPLIES,
    CATALOGUE,
    CONSTANT_LABELS,
    METRICS,
    UNITS,
    Metric,
)

PAGE = Path(__file__).parents[3] / "docs/metrics.md"
by_name = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)


@by_name
def test_names_follow_the_conventions_of_prometheus(metric: Metric) -> None:
    assert re.fullmatch(r"naics_[a-z0-9]+(_[a-z0-9]+)+", metric.name)
    ends = {"counter": "_total", "info": "_info"}
    for kind, end in ends.items():
        assert metric.name.endswith(end) == (metric.kind == kind)
    assert metric.kind in (*ends, "gauge", "histogram")
    assert metric.applies in APPLIES
    assert metric.help.endswith(".")
    assert not set(metric.labels) & {*CONSTANT_LABELS, "le", "job", "instance"}


@by_name
def test_the_unit_is_in_the_name(metric: Metric) -> None:
    words = metric.name.removesuffix("_total").split("_")
    assert metric.unit == (words[-1] if words[-1] in UNITS else "")
    assert not {"s", "ms", "mb", "gb", "percent", "milliseconds"} & set(words)


def test_no_family_has_the_name_of_another_without_its_end() -> None:
    """OpenMetrics leaves _total and _info out of the name of a family."""
    bases = Counter(name.removesuffix("_total").removesuffix("_info") for name in CATALOGUE)
    assert [base for base, count in bases.items() if count > 1] == []
    assert len(CATALOGUE) == len(METRICS)


def test_the_page_is_that_of_the_catalogue() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: make docs"


def test_every_condition_is_used() -> None:
    assert {metric.applies for metric in METRICS} == set(APPLIES)
