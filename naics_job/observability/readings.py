"""The newest values of a process's metrics: plain numbers, written by training, read by a scrape.

No lock is taken: a value is one entry of a dict, which other threads see before or after, and
training must never wait for a scrape.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator

from naics_job.observability.metrics import CATALOGUE, TIME_BUCKETS

Series = dict[tuple[str, ...], float]  # label values -> value


class Histogram:
    """Counts of seconds by bucket, the last one for what is above all bounds."""

    def __init__(self) -> None:
        self.counts = [0] * (len(TIME_BUCKETS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(TIME_BUCKETS, seconds)] += 1
        self.sum += seconds


class Readings:
    """Values by metric and label values; which metrics and labels there are says `CATALOGUE`."""

    def __init__(self) -> None:
        self._series: dict[str, Series] = {name: {} for name in CATALOGUE}
        self._histograms = dict[str, Histogram]()
        self._sources: tuple[Callable[[], None], ...] = ()

    def set(self, name: str, value: float, *labels: str) -> None:
        """Replace the value of a gauge or a counter that is counted elsewhere."""
        series = self._series[name]
        assert labels in series or len(labels) == len(CATALOGUE[name].labels), name
        series[labels] = value

    def add(self, name: str, amount: float = 1.0, *labels: str) -> None:
        """Raise a counter; only the training thread may do that."""
        self.set(name, self._series[name].get(labels, 0.0) + amount, *labels)

    def observe(self, name: str, seconds: float) -> None:
        """Count a duration in a histogram."""
        histogram = self._histograms.get(name)
        if histogram is None:
            assert CATALOGUE[name].kind == "histogram", name
            histogram = self._histograms[name] = Histogram()
        histogram.observe(seconds)

    def one_hot(self, name: str, value: str, choices: tuple[str, ...]) -> None:
        """1 for the choice that holds, 0 for the others."""
        for choice in choices:
            self.set(name, float(choice == value), choice)

    def before_scrape(self, source: Callable[[], None]) -> None:
        """Call `source`, which sets values, at each scrape: for ages and what costs to measure."""
        self._sources += (source,)

    def refresh(self) -> None:
        """Let the sources of `before_scrape` set their values."""
        for source in self._sources:
            source()

    def series(self, name: str) -> list[tuple[tuple[str, ...], float]]:
        """Label values and value of each series of a metric."""
        return list(self._series[name].items())

    def value(self, name: str, *labels: str) -> float | None:
        """One value, None while there is none."""
        return self._series[name].get(labels)

    def histogram(self, name: str) -> Histogram | None:
        """A histogram, None while nothing was observed."""
        return self._histograms.get(name)

    def present(self) -> Iterator[str]:
        """Names of the metrics that have a value."""
        for name, series in self._series.items():
            if series or name in self._histograms:
                yield name
