"""The HTTP server of one process: /metrics for Prometheus, /healthz and /readyz for probes.

One per process on a port of its own, with its own registry and no files: what prometheus_client
calls its multiprocess mode has neither info metrics nor values that are computed at the scrape.
"""

import errno
import logging
import socket
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from naics_job.config.metrics_schema import MetricsConfig
from naics_job.errors import ConfigError
from naics_job.observability.cluster import default_address
from naics_job.observability.exposition import ReadingsCollector
from naics_job.observability.health import Health
from naics_job.observability.logs import event
from naics_job.observability.readings import Readings

log = logging.getLogger(__name__)
TRIED_PORTS = 100
REQUEST_S = 10.0  # a client that is slower than that is dropped


class _Server(ThreadingHTTPServer):
    """Answers each request in a thread of its own; failures are counted and told once."""

    daemon_threads = True
    told = False

    def __init__(self, address: tuple[str, int], exporter: "Exporter") -> None:
        self.exporter = exporter
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family = found[0][0]
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without asking a name server who we are, as `HTTPServer` does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Count a failure of ours; a client that goes away is none."""
        error = sys.exception()
        if isinstance(error, ConnectionError | TimeoutError):
            return
        self.exporter.readings.add("naics_exporter_errors_total")
        if not self.told:
            self.told = True
            log.warning("metrics.request_failed", exc_info=error)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = REQUEST_S
    server_version, sys_version = "naics-job", ""

    def do_GET(self) -> None:
        """Answer one request."""
        exporter, path = self.server.exporter, self.path.partition("?")[0]
        if path == "/metrics":
            encode, kind = choose_encoder(self.headers.get("Accept", ""))
            self._answer(200, encode(exporter.registry), kind)
        elif path in ("/healthz", "/readyz"):
            health = exporter.health
            good, why = health.alive() if path == "/healthz" else health.ready()
            self._answer(200 if good else 503, f"{why}\n".encode())
        else:
            self._answer(404, b"there are /metrics, /healthz and /readyz\n")

    def _answer(self, code: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log no requests."""


class Exporter:
    """Serves readings until it is closed.

    Args:
        readings: what is shown at /metrics.
        health: what /healthz and /readyz answer.

    Attributes:
        restarts: how often the thread had to be started again.
    """

    def __init__(self, readings: Readings, health: Health) -> None:
        self.readings, self.health = readings, health
        self.collector, self.registry = ReadingsCollector(readings), CollectorRegistry()
        self.registry.register(self.collector)
        self.restarts = 0
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._lost = False  # whether the thread has ended
        self._address = ("127.0.0.1", 0)
        readings.set("naics_exporter_errors_total", 0.0)
        readings.set("naics_exporter_restarts_total", 0.0)

    @property
    def url(self) -> str:
        """Where it answers."""
        host, port = self._address
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{port}"

    def start(self, config: MetricsConfig, local_rank: int) -> None:
        """Listen on the port of `local_rank`, or on the next free one where the settings allow it.

        Raises:
            ConfigError: the port is taken, or the address is not one of this machine.
        """
        wanted = config.port + local_rank if config.port else 0
        tries = TRIED_PORTS if wanted and config.port_taken == "next" else 1
        host = config.address or default_address()
        for port in range(wanted, wanted + tries):
            try:
                self._listen((host, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise _refused(host, port, error) from error
                failure = error
            else:
                break
        else:
            raise _refused(host, wanted, failure) from failure
        if wanted and port != wanted:
            event(log, logging.WARNING, "metrics.port_taken", port=wanted, instead=port)
        event(log, logging.INFO, "metrics.served", url=f"{self.url}/metrics")

    def show(self, **constant: str) -> None:
        """From now on show metrics, with these labels on every series."""
        self.collector.constant = constant

    def revive(self) -> None:
        """Start again if the thread has ended, as nothing but a defect or the system makes it.

        Training goes on whatever comes of that; cheap enough to be asked at every step.
        """
        if not self._lost or self._thread is None:
            return
        self._thread.join()
        self.restarts += 1
        self.readings.set("naics_exporter_restarts_total", float(self.restarts))
        self._release()
        try:
            self._listen(self._address)
        except OSError as error:
            if self.restarts == 1:
                event(log, logging.WARNING, "metrics.lost", url=self.url, error=str(error))
            return
        if self.restarts == 1:
            event(log, logging.WARNING, "metrics.restarted", url=self.url)

    def close(self) -> None:
        """Answer nothing more; requests under way may end."""
        if self._server is not None and self._thread is not None and self._thread.is_alive():
            self._server.shutdown()
        self._release()
        self._thread = None

    def _listen(self, address: tuple[str, int]) -> None:
        server = _Server(address, self)
        self._address = (address[0], server.server_port)
        self._server = server
        self._lost = False
        self._thread = threading.Thread(
            target=self._serve, args=(server,), name="exporter", daemon=True
        )
        self._thread.start()

    def _serve(self, server: _Server) -> None:
        try:
            server.serve_forever(poll_interval=0.1)
        finally:
            self._lost = True

    def _release(self) -> None:
        if self._server is not None:
            self._server.server_close()
            self._server = None


def _refused(host: str, port: int, error: OSError) -> ConfigError:
    reason = error.strerror or str(error)
    return ConfigError(
        f"metrics cannot be served on {host} port {port}: {reason}",
        "set metrics.port to a free one, metrics.port_taken=next, metrics.address to an address of "
        "this machine, or metrics.enabled=false",
    )
