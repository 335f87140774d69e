"""What a real run shows over HTTP while it goes on and when it ends."""

import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from tiny_bert import TINY

from naics_job.loss.hierarchy import HierarchyLoss
from naics_job.observability.metrics import CATALOGUE, CONSTANT_LABELS, MAX_SERIES
from naics_job.training.encoding import StepEncoder

pytestmark = pytest.mark.integration
CODE = "from naics_job.cli.app import main; main()"
ONE_EPOCH = "training.trainer.max_epochs=1"
ABSENT = {"gpu", "nvml"}  # conditions that do not hold on a machine without a GPU
PAUSE_S = 0.1


@dataclass
class Seen:
    """The answers of one process."""

    scrape: str = ""  # newest that was not empty
    health: set[int] = field(default_factory=set)
    ready: list[int] = field(default_factory=list)  # without repetitions

    @property
    def samples(self) -> list[Sample]:
        """Every sample of the newest scrape."""
        families = text_string_to_metric_families(self.scrape)
        return [sample for family in families for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """The one sample of that name and these labels."""
        found = [s for s in self.samples if s.name == name and s.labels.items() >= labels.items()]
        assert len(found) == 1, (name, labels)
        return float(found[0].value)

    def names(self) -> set[str]:
        """Names of the metrics that have a sample."""
        ends = ("_bucket", "_count", "_sum")
        found = {sample.name for sample in self.samples}
        return {
            next((name.removesuffix(e) for e in ends if name.removesuffix(e) in CATALOGUE), name)
            for name in found
        }


class Scraper(threading.Thread):
    """Asks again and again until it is told to stop; a server that is not there is no failure."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url, self.seen, self.over = url, Seen(), threading.Event()

    def run(self) -> None:
        while not self.over.wait(PAUSE_S):
            try:
                scrape = self._get("/metrics")[1]
                self.seen.scrape = scrape or self.seen.scrape
                self.seen.health.add(self._get("/healthz")[0])
                if (ready := self._get("/readyz")[0]) not in self.seen.ready[-1:]:
                    self.seen.ready.append(ready)
            except (OSError, urllib.error.URLError):
                continue

    def _get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def stop(self) -> Seen:
        """What was seen until now."""
        self.over.set()
        self.join(60)
        return self.seen


class Watch(logging.Handler):
    """Starts a scraper for each exporter of this process that says where it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.scrapers = queue.SimpleQueue[Scraper]()

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == "metrics.served":
            url = record.fields["url"]  # type: ignore[attr-defined]
            scraper = Scraper(url.removesuffix("/metrics"))
            scraper.start()
            self.scrapers.put(scraper)

    def newest(self) -> Seen:
        """What the scraper of the run that has just ended saw."""
        assert self.scrapers.qsize() == 1
        return self.scrapers.get().stop()


@pytest.fixture(scope="module")
def watch() -> Iterator[Watch]:
    handler, log = Watch(), logging.getLogger("naics_job.observability.exporter")
    level = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)
    log.setLevel(level)


SERVED = ("metrics.port=0", "metrics.linger_s=2")


@pytest.fixture(scope="module")
def finished(run_tiny: Any, watch: Watch, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of all phases: its outcome and what was seen of it."""
    out = run_tiny(tmp_path_factory.mktemp("served"), *SERVED)
    assert out.error is None
    return out, watch.newest()


def test_everything_declared_is_there_and_little_enough(finished: Any) -> None:
    _, seen = finished
    expected = {name for name, metric in CATALOGUE.items() if metric.applies not in ABSENT}
    assert seen.names() == expected
    assert len(seen.samples) <= MAX_SERIES
    assert len(seen.scrape) < 64_000
    assert all(set(CONSTANT_LABELS) <= set(sample.labels) for sample in seen.samples)


def test_the_last_scrape_says_what_the_record_says(finished: Any) -> None:
    out, seen = finished
    record, last = out.record, out.rows[-1]
    labels = {"run": record["run_id"], "rank": "0", "gpu": "none"}
    assert {tuple(s.labels[k] for k in labels) for s in seen.samples} == {tuple(labels.values())}
    assert seen.value("naics_training_step") == record["steps"] == 21
    assert seen.value("naics_training_planned_steps") == 21
    assert seen.value("naics_training_phase") == 3
    assert seen.value("naics_training_phase_active", phase_name="false-negative mitigation") == 1
    assert [seen.value("naics_training_phase_end_step", phase=p) for p in "123"] == [9, 17, 21]
    assert seen.value("naics_training_anchors_total") == 21 * 8
    assert seen.value("naics_global_batch_anchors") == 8
    assert seen.value("naics_training_step_seconds_count") == 21
    assert seen.value("naics_run_goodput_ratio") == pytest.approx(record["goodput"])
    assert 0 < record["goodput"] < 1
    assert seen.value("naics_run_outcome", status="finished") == 1
    assert seen.value("naics_run_outcome", status="failed") == 0
    assert seen.value("naics_run_exit_code") == 0
    assert seen.value("naics_checkpoint_step") == 21
    assert seen.value("naics_checkpoint_size_bytes") == out.checkpoint.stat().st_size
    trained = [row for row in out.rows if "train/total" in row][-1]
    for term in ("total", "hierarchy", "contrastive", "distillation"):
        assert seen.value("naics_training_loss", term=term) == trained[f"train/{term}"]
    assert seen.value("naics_training_gradient_norm") == trained["train/gradient_norm"] > 0
    # of the last evaluation of training; the record is of the export, with the adapter in the codes
    evaluated = [row for row in out.rows if "all/map" in row][-1]
    for metric in record["metrics"]["all"]:
        score = evaluated[f"all/{metric}"]
        assert seen.value("naics_evaluation_score", metric=metric) == pytest.approx(score)
    assert seen.value("naics_evaluation_step") == 21
    load = [s.value for s in seen.samples if s.name == "naics_router_load_ratio"]
    assert sum(load) == pytest.approx(1)
    assert max(load) == seen.value("naics_router_load_max_ratio")
    assert last["step"] == 21


def test_probes_saw_a_start_and_then_a_run_in_health(finished: Any) -> None:
    _, seen = finished
    assert seen.ready == [503, 200]
    assert seen.health == {200}


def test_a_resume_counts_itself(run_tiny: Any, watch: Watch, finished: Any, tmp_path: Path) -> None:
    run_tiny(tmp_path, *SERVED, ONE_EPOCH)
    first = watch.newest()
    run_tiny(tmp_path, *SERVED, "training.trainer.max_epochs=2", ckpt_path="last")
    second = watch.newest()
    assert first.value("naics_run_restarts_total") == 0
    assert second.value("naics_run_restarts_total") == 1
    assert second.value("naics_training_step") == 14
    assert second.value("naics_training_step_seconds_count") == 7
    runs = [{sample.labels["run"] for sample in seen.samples} for seen in (first, second)]
    assert runs[0] == runs[1]


def test_a_loss_that_is_no_number_is_seen_before_the_process_ends(
    run_tiny: Any, watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = HierarchyLoss.forward, []

    def forward(self: HierarchyLoss, *inputs: torch.Tensor) -> torch.Tensor:
        calls.append(0)
        return original(self, *inputs) * (float("nan") if len(calls) == 4 else 1.0)

    monkeypatch.setattr(HierarchyLoss, "forward", forward)
    out = run_tiny(tmp_path, *SERVED, ONE_EPOCH)
    assert out.error is not None
    seen = watch.newest()
    assert seen.value("naics_training_nonfinite_total", source="hierarchy") == 1
    assert seen.value("naics_training_nonfinite_total", source="contrastive") == 0
    assert seen.value("naics_run_outcome", status="failed") == 1
    assert seen.value("naics_run_exit_code") == 70


def test_a_run_that_is_told_to_stop_does_not_linger(
    run_tiny: Any, watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lingering would outlast this test, as it would outlast the grace period of a pod."""
    original, calls = StepEncoder.step, list[int]()

    def step(self: StepEncoder, *inputs: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *inputs)

    monkeypatch.setattr(StepEncoder, "step", step)
    out = run_tiny(tmp_path, ONE_EPOCH, "metrics.port=0", "metrics.linger_s=3600")
    watch.newest()
    assert out.record["exit_code"] == 143


def test_switched_off_nothing_listens(run_tiny: Any, watch: Watch, tmp_path: Path) -> None:
    out = run_tiny(tmp_path, "metrics.enabled=false", ONE_EPOCH)
    assert out.error is None
    assert watch.scrapers.empty()
    assert out.record["goodput"] > 0


def test_switched_off_its_library_is_not_even_loaded() -> None:
    code = "import sys, naics_job.training.run; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=240).returncode == 0


def free_pair() -> int:
    """The first of two ports in a row that nobody listens on."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            if port > 64_000:
                continue
            try:
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def test_each_process_of_a_run_has_a_port_of_its_own(wordy_folder: Path, tmp_path: Path) -> None:
    port = free_pair()
    scrapers = [Scraper(f"http://127.0.0.1:{port + local_rank}") for local_rank in range(2)]
    for scraper in scrapers:
        scraper.start()
    settings = (
        *(f"model.base_model_name={wordy_folder}", "training.trainer.devices=2", ONE_EPOCH),
        *(f"metrics.port={port}", "metrics.port_taken=fail", "metrics.linger_s=3"),
        *("data_loader.batch_size=4", *TINY),
    )
    done = subprocess.run(
        [sys.executable, "-c", CODE, "train", "--profile", "smoke", *settings],
        cwd=tmp_path,
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    both = [scraper.stop() for scraper in scrapers]
    for rank, seen in enumerate(both):
        assert {sample.labels["rank"] for sample in seen.samples} == {str(rank)}
        assert seen.value("naics_world_size") == 2
        assert seen.value("naics_training_step") == 7
        assert seen.value("naics_training_anchors_total") == 7 * 8  # of both
        assert seen.value("naics_global_batch_anchors") == 8
    assert both[0].names() > both[1].names()
    only_main = {CATALOGUE[name].applies for name in both[0].names() - both[1].names()}
    assert only_main == {"main", "saved", "end"}
    assert len({sample.labels["run"] for seen in both for sample in seen.samples}) == 1
