"""Readings in the shape that prometheus_client writes as text."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from naics_job.observability.metrics import CATALOGUE, TIME_BUCKETS
from naics_job.observability.metrics import Metric as Declared
from naics_job.observability.readings import Readings

BOUNDS = [*(str(bound) for bound in TIME_BUCKETS), "+Inf"]


class ReadingsCollector(Collector):
    """`Readings` as metric families; nothing is shown before the constant labels are known."""

    def __init__(self, readings: Readings) -> None:
        self.readings = readings
        self.constant: Mapping[str, str] | None = None

    def only(self, names: frozenset[str]) -> "Collector":
        """The same readings, but of some metrics alone."""
        return _Part(self, names)

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry need not look for duplicates."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every metric of the catalogue that has a value."""
        return self.families(CATALOGUE)

    def families(self, wanted: Iterable[str]) -> Iterator[Metric]:
        """The metrics of these names that have a value."""
        if self.constant is None:
            return
        names = [_clean(name) for name in self.constant]
        values = [_clean(value) for value in self.constant.values()]
        self.readings.refresh()
        for name in wanted:
            family = self._family(CATALOGUE[name], names, values)
            if family.samples:
                yield family

    def _family(self, declared: Declared, names: list[str], values: list[str]) -> Metric:
        base = declared.name.removesuffix("_total").removesuffix("_info")
        text, labels, unit = declared.help, [*names, *declared.labels], declared.unit
        if declared.kind == "histogram":
            histogram = HistogramMetricFamily(base, text, labels=names, unit=unit)
            if (found := self.readings.histogram(declared.name)) is not None:
                counts = [float(count) for count in accumulate(found.counts)]
                histogram.add_metric(values, list(zip(BOUNDS, counts, strict=True)), found.sum)
            return histogram
        series = self.readings.series(declared.name)
        if declared.kind == "info":
            info = InfoMetricFamily(base, text, labels=names)
            for own, _ in series:
                shown = map(_clean, own)
                info.add_metric(values, dict(zip(declared.labels, shown, strict=True)))
            return info
        kind = CounterMetricFamily if declared.kind == "counter" else GaugeMetricFamily
        family = kind(base, text, labels=labels, unit=unit)
        for own, value in series:
            family.add_metric([*values, *map(_clean, own)], value)
        return family


class _Part(Collector):
    def __init__(self, whole: ReadingsCollector, names: frozenset[str]) -> None:
        self.whole, self.names = whole, sorted(names)

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        return self.whole.families(self.names)


def _clean(text: str) -> str:
    """`text` in which what UTF-8 cannot hold, as environment variables may, is a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")
