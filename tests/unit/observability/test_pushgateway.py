"""What is left at a Pushgateway, seen by an HTTP server that takes its place."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from naics_job.observability.exposition import ReadingsCollector
from naics_job.observability.metrics import CATALOGUE
from naics_job.observability.pushgateway import PUSHED, Pushgateway
from naics_job.observability.readings import Readings

Requests = list[tuple[str, str, str]]


@pytest.fixture
def gateway() -> Iterator[tuple[str, Requests]]:
    """URL of a server, and the method, path and body of each request to it."""
    seen: Requests = []

    class Handler(BaseHTTPRequestHandler):
        def _note(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            seen.append((self.command, self.path, self.rfile.read(size).decode()))
            self.send_response(202)
            self.end_headers()

        do_PUT = do_POST = do_DELETE = _note  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    thread.join()
    server.server_close()


def collector() -> ReadingsCollector:
    readings = Readings()
    readings.set("naics_run_outcome", 1.0, "finished")
    readings.set("naics_training_step", 70.0)
    readings.set("naics_training_loss", 0.5, "total")
    made = ReadingsCollector(readings)
    made.constant = {"run": "r1", "rank": "0", "gpu": "none"}
    return made


def test_one_group_per_experiment_is_deleted_and_replaced(gateway: tuple[str, Requests]) -> None:
    url, seen = gateway
    target = Pushgateway(url, "exp-1", collector())
    target.forget()
    target.push()
    assert [method for method, _, _ in seen] == ["DELETE", "PUT"]
    assert len({path for _, path, _ in seen}) == 1
    assert seen[0][1] == "/metrics/job/naics-train/experiment/exp-1"
    body = seen[1][2]
    assert 'naics_run_outcome{gpu="none",rank="0",run="r1",status="finished"} 1.0' in body
    assert "naics_training_step" in body
    assert "naics_training_loss" not in body  # its last value says little about a run


def test_only_declared_metrics_are_pushed() -> None:
    assert set(CATALOGUE) >= PUSHED


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://host:port"])
def test_a_gateway_that_cannot_be_reached_is_told(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    target = Pushgateway(url, "exp", collector())
    target.forget()
    target.push()
    assert [record.message for record in caplog.records] == ["metrics.push_failed"] * 2
