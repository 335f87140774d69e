"""A served exporter on a free port, with settings that a test may change."""

import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from naics_job.config.load import load_config
from naics_job.config.metrics_schema import MetricsConfig
from naics_job.observability import heartbeat
from naics_job.observability.exporter import Exporter
from naics_job.observability.health import Health
from naics_job.observability.heartbeat import Pulse
from naics_job.observability.readings import Readings


@pytest.fixture(autouse=True)
def _no_pulse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "_pulse", Pulse(float("-inf"), rests=True))


@pytest.fixture
def settings() -> Callable[..., MetricsConfig]:
    """The default settings on a free port, with changes."""
    default = load_config().config.metrics
    return lambda **changes: replace(default, **{"port": 0, **changes})


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def exporter(settings: Any, clock: Clock) -> Iterator[Exporter]:
    """Serves with the labels of a run; stall_s=60, start_s=300."""
    config = settings(stall_s=60.0, start_s=300.0)
    made = Exporter(Readings(), Health(config, clock))
    made.start(config, 0)
    made.show(run="run-a", rank="0", gpu="none")
    yield made
    made.close()


class Answer:
    """Status, content type and text of an answer."""

    def __init__(self, url: str, accept: str = "") -> None:
        request = urllib.request.Request(url, headers={"Accept": accept})
        try:
            with urllib.request.urlopen(request, timeout=10) as found:
                self.status, self.kind = found.status, found.headers["Content-Type"]
                self.text = found.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                self.status, self.kind = error.code, error.headers["Content-Type"]
                self.text = error.read().decode()


@pytest.fixture
def get(exporter: Exporter) -> Callable[..., Answer]:
    """Ask the exporter for a path."""
    return lambda path, accept="": Answer(exporter.url + path, accept)
