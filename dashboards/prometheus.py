"""A Prometheus of one's own: started for a while on a free port, and asked over its HTTP API."""

import json
import math
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

RULES = Path(__file__).resolve().parents[1] / "helm" / "naics-train" / "rules" / "naics.yaml"
READY_S, ANSWER_S = 60.0, 30.0
NAMESPACE = "local"  # in a cluster it is that of the pod
SERVER = "prometheus"  # Debian's package of that name, or a binary on PATH


class PrometheusError(Exception):
    """Prometheus is missing, does not start, or refuses a query."""


@dataclass(frozen=True)
class Series:
    """Labels, and values by Unix time."""

    labels: dict[str, str]
    times: list[float]
    values: list[float]


def config(ports: Sequence[int], scrape_s: float = 5.0) -> str:
    """Settings that scrape processes on these ports of this machine and evaluate the rules."""
    targets = [f"127.0.0.1:{port}" for port in ports]
    every = f"{round(scrape_s * 1000)}ms"
    settings = {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": "15s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {
                "job_name": "naics-train",
                "static_configs": [{"targets": targets, "labels": {"namespace": NAMESPACE}}],
            }
        ],
    }
    return yaml.safe_dump(settings, sort_keys=False)


@contextmanager
def serve(folder: Path, ports: Sequence[int], scrape_s: float = 5.0) -> Iterator["Api"]:
    """Scrape these ports for the length of the body, with data and log in `folder`.

    Raises:
        PrometheusError: there is no such program, or it does not start.
    """
    binary = shutil.which(SERVER)
    if binary is None:
        raise PrometheusError(f"{SERVER} is not on PATH: install Debian's package {SERVER}")
    file, port = folder / "prometheus.yml", free_port()
    file.write_text(config(ports, scrape_s), encoding="utf-8")
    command = [
        binary,
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            api = Api(f"http://127.0.0.1:{port}")
            _wait(api, process, folder / "prometheus.log")
            yield api
        finally:
            process.terminate()
            process.wait()


@dataclass(frozen=True)
class Api:
    """The HTTP API at a URL."""

    url: str

    def instant(self, query: str, at: float) -> list[Series]:
        """The value of each series at one time."""
        found = self._ask("query", query=query, time=at)
        if found["resultType"] == "scalar":
            found = {"result": [{"metric": {}, "value": found["result"]}]}
        return [_series(each["metric"], [each["value"]]) for each in found["result"]]

    def range(self, query: str, start: float, end: float, step_s: float) -> list[Series]:
        """The values of each series from `start` to `end`."""
        found = self._ask("query_range", query=query, start=start, end=end, step=step_s)
        return [_series(each["metric"], each["values"]) for each in found["result"]]

    def get(self, what: str) -> Any:
        """What the API says at another path, such as `rules`."""
        with urllib.request.urlopen(f"{self.url}/api/v1/{what}", timeout=ANSWER_S) as answer:
            return json.load(answer)["data"]

    def ready(self) -> bool:
        """Whether it answers queries."""
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=ANSWER_S) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _ask(self, what: str, **values: object) -> Any:
        body = urllib.parse.urlencode(values).encode()
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{what}", body, ANSWER_S) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            raise PrometheusError(f"{values['query']}: {text}") from error


def _series(labels: dict[str, str], points: Sequence[tuple[float, str]]) -> Series:
    return Series(labels, [time for time, _ in points], [_number(text) for _, text in points])


def _number(text: str) -> float:
    return math.nan if text == "NaN" else float(text)


def free_port() -> int:
    """A port of the loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(api: Api, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + READY_S
    while not api.ready():
        if process.poll() is not None or time.monotonic() > until:
            tail = log.read_text(encoding="utf-8")[-2000:]
            raise PrometheusError(f"{SERVER} does not start:\n{tail}")
        time.sleep(0.1)
