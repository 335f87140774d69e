"""What is answered over HTTP: real requests to a real server on this machine."""

import logging
import math
import socket
import threading
import urllib.error
import urllib.request
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from naics_job.errors import ConfigError
from naics_job.observability import exporter as exporter_module
from naics_job.observability.exporter import Exporter
from naics_job.observability.health import Health
from naics_job.observability.metrics import CATALOGUE
from naics_job.observability.readings import Readings

OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;q=0.5"
CONSTANT = {"run": "run-a", "rank": "0", "gpu": "none"}


def fill(readings: Readings) -> None:
    """A value for every metric of the catalogue."""
    for metric in CATALOGUE.values():
        if metric.kind == "histogram":
            readings.observe(metric.name, 0.2)
        else:
            readings.set(metric.name, 1.0, *("x" for _ in metric.labels))


def test_both_formats_hold_every_metric_as_declared(exporter: Exporter, get: Any) -> None:
    fill(exporter.readings)
    plain, open_format = get("/metrics"), get("/metrics", OPENMETRICS)
    assert plain.kind == "text/plain; version=0.0.4; charset=utf-8"
    assert open_format.kind.startswith("application/openmetrics-text; version=1.0.0")
    assert open_format.text.endswith("# EOF\n")
    for text, parse in (
        (plain.text, text_string_to_metric_families),
        (open_format.text, openmetrics_families),
    ):
        seen = {}
        for family in parse(text):
            for sample in family.samples:
                name = sample.name
                for end in ("_bucket", "_count", "_sum"):
                    if name.removesuffix(end) in CATALOGUE:
                        name = name.removesuffix(end)
                seen[name] = family.documentation
                assert {key: sample.labels[key] for key in CONSTANT} == CONSTANT
                assert set(sample.labels) - set(CONSTANT) - {"le"} == set(CATALOGUE[name].labels)
        assert seen == {metric.name: metric.help for metric in CATALOGUE.values()}
    units = {family.name: family.unit for family in openmetrics_families(open_format.text)}
    assert units["naics_gpu_memory_bytes"] == "bytes"
    assert units["naics_checkpoint_blocked_seconds"] == "seconds"
    assert units["naics_training_step"] == ""


def test_odd_values_and_labels_survive(exporter: Exporter, get: Any) -> None:
    exporter.show(run='a"b\\c\nd é \udcff', rank="0", gpu="none")
    for term, value in (("x", math.nan), ("y", math.inf), ("z", -math.inf)):
        exporter.readings.set("naics_training_loss", value, term)
    families = {f.name: f for f in text_string_to_metric_families(get("/metrics").text)}
    found = {s.labels["term"]: s for s in families["naics_training_loss"].samples}
    assert math.isnan(found["x"].value)
    assert (found["y"].value, found["z"].value) == (math.inf, -math.inf)
    assert {s.labels["run"] for s in found.values()} == {'a"b\\c\nd é ?'}


def test_a_histogram_counts_what_is_below_each_bound(exporter: Exporter, get: Any) -> None:
    for seconds in (0.001, 0.002, 5.0, 1000.0, 0.0):
        exporter.readings.observe("naics_training_step_seconds", seconds)
    families = {f.name: f for f in text_string_to_metric_families(get("/metrics").text)}
    samples = families["naics_training_step_seconds"].samples
    buckets = {s.labels["le"]: s.value for s in samples if s.name.endswith("_bucket")}
    assert (buckets["0.001"], buckets["0.003"], buckets["3.0"]) == (2, 3, 3)
    assert (buckets["10.0"], buckets["100.0"], buckets["+Inf"]) == (4, 4, 5)
    rest = {s.name.rpartition("_")[2]: s.value for s in samples if "le" not in s.labels}
    assert rest == {"count": 5, "sum": pytest.approx(1005.003)}


def test_nothing_is_shown_before_the_run_is_known(settings: Any) -> None:
    config = settings()
    made = Exporter(Readings(), Health(config))
    made.start(config, 0)
    try:
        with urllib.request.urlopen(made.url + "/metrics", timeout=10) as found:
            assert (found.status, found.read()) == (200, b"")
        with urllib.request.urlopen(made.url + "/healthz", timeout=10) as found:
            assert found.status == 200
    finally:
        made.close()


def test_health_follows_the_clock(exporter: Exporter, get: Any, clock: Any) -> None:
    assert (get("/healthz").status, get("/readyz").status) == (200, 503)
    clock.now += 299
    assert get("/healthz").status == 200
    clock.now += 2
    late = get("/healthz")
    assert late.status == 503
    assert "metrics.start_s=300" in late.text
    exporter.health.sign()
    assert (get("/healthz").status, get("/readyz").status) == (200, 200)
    assert get("/nowhere").status == 404


def test_a_source_that_fails_is_counted_and_told_once(
    exporter: Exporter, get: Any, caplog: pytest.LogCaptureFixture
) -> None:
    broken = [True]

    def source() -> None:
        if broken[0]:
            raise RuntimeError("no such sensor")

    exporter.readings.before_scrape(source)
    for _ in range(3):
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            get("/metrics")
    assert [r.message for r in caplog.records] == ["metrics.request_failed"]
    assert get("/healthz").status == 200
    broken[0] = False
    assert "naics_exporter_errors_total" in get("/metrics").text
    assert exporter.readings.value("naics_exporter_errors_total") == 3


def test_a_client_that_goes_away_is_no_failure(exporter: Exporter, get: Any) -> None:
    host, port = exporter.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"GET /metrics HTTP/1.0\r\n")
    assert get("/metrics").status == 200
    assert exporter.readings.value("naics_exporter_errors_total") == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_died_is_started_again_at_the_same_place(
    exporter: Exporter, get: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    url = exporter.url
    for count in (1, 2):
        thread, server = exporter._thread, exporter._server
        assert thread is not None
        assert server is not None
        server.service_actions = lambda: 1 / 0  # type: ignore[assignment,return-value]
        thread.join(10)
        assert not thread.is_alive()
        exporter.revive()
        assert get("/healthz").status == 200
        assert (exporter.restarts, exporter.url) == (count, url)
    assert exporter.readings.value("naics_exporter_restarts_total") == 2
    assert [r.message for r in caplog.records if "restarted" in r.message] == ["metrics.restarted"]


def test_closing_lets_a_scrape_under_way_end(exporter: Exporter) -> None:
    begun, go, texts = threading.Event(), threading.Event(), list[str]()

    def source() -> None:
        begun.set()
        go.wait(10)

    exporter.readings.before_scrape(source)

    def scrape() -> None:
        with urllib.request.urlopen(exporter.url + "/metrics", timeout=10) as found:
            texts.append(found.read().decode())

    client = threading.Thread(target=scrape)
    client.start()
    assert begun.wait(10)
    exporter.close()
    go.set()
    client.join(10)
    assert "naics_exporter_errors_total" in texts[0]
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(exporter.url + "/metrics", timeout=10)


@pytest.fixture
def taken() -> Any:
    """A port that somebody else listens on, with the next one free or not."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        if port > 64_000:
            pytest.skip("the system gave a port that settings do not allow")
        yield port


def test_a_taken_port_gives_way_to_the_next_and_the_log_says_so(
    settings: Any, taken: int, caplog: pytest.LogCaptureFixture
) -> None:
    config = settings(port=taken)
    made = Exporter(Readings(), Health(config))
    made.start(config, 0)
    made.close()
    port = int(made.url.rpartition(":")[2])
    assert taken < port < taken + exporter_module.TRIED_PORTS
    (record,) = (r for r in caplog.records if r.message == "metrics.port_taken")
    assert record.fields == {"port": taken, "instead": port}  # type: ignore[attr-defined]


def test_a_taken_port_is_an_error_where_that_is_asked_for(settings: Any, taken: int) -> None:
    config = settings(port=taken - 1, port_taken="fail")
    with pytest.raises(ConfigError, match=f"127.0.0.1 port {taken}") as caught:
        Exporter(Readings(), Health(config)).start(config, local_rank=1)
    assert "metrics.port_taken=next" in caught.value.hint


def test_an_address_of_another_machine_is_refused(settings: Any) -> None:
    config = settings(address="192.0.2.1")
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1"):
        Exporter(Readings(), Health(config)).start(config, 0)


@pytest.mark.parametrize(("variable", "host"), [("", "127.0.0.1"), ("10.0.0.1", "0.0.0.0")])
def test_only_a_pod_is_open_to_other_machines(
    settings: Any, monkeypatch: pytest.MonkeyPatch, variable: str, host: str
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    if variable:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", variable)
    config = settings()
    made = Exporter(Readings(), Health(config))
    made.start(config, 0)
    made.close()
    assert made.url.startswith(f"http://{host}:")
