"""Every metric of the catalogue, served as a run of several ranks would, without training."""

import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from naics_job.curriculum.schedule import Phase
from naics_job.observability.exposition import ReadingsCollector
from naics_job.observability.metrics import CATALOGUE, Metric
from naics_job.observability.readings import Readings

VALUES = {  # of the labels that queries name
    "phase": ("1", "2", "3"),
    "phase_name": tuple(phase.title for phase in Phase),
    "term": ("total", "contrastive", "hierarchy", "rank_order", "distillation", "radius"),
    "mechanism": ("structure_weights", "mining", "router", "false_negatives", "margin"),
    "source": ("hierarchy", "gradient"),
    "metric": ("parent@1", "map", "ndcg@10", "spearman", "cophenetic", "distortion"),
    "level": ("2", "3", "4", "5", "6"),
    "expert": ("0", "1", "2", "3"),
    "group": ("maps", "experts", "scales", "lora"),
    "part": ("codes", "pairs"),
    "status": ("finished", "stopped", "failed"),
}
KINDS = {
    "naics_gpu_memory_bytes": ("allocated", "reserved", "peak", "total"),
    "naics_process_memory_bytes": ("resident", "peak"),
}
STEPS_PER_S, PLANNED = 4.0, 400


@contextmanager
def made_up_run(ranks: int, *, ended: bool = False) -> Iterator[list[int]]:
    """Serve `ranks` processes of a run; yields their ports.

    Args:
        ranks: how many.
        ended: whether rank 0 also shows how the run ended.
    """
    servers = [_server(rank, ranks, ended) for rank in range(ranks)]
    try:
        for server in servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield [server.server_port for server in servers]
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def _server(rank: int, ranks: int, ended: bool) -> ThreadingHTTPServer:
    readings, registry = Readings(), CollectorRegistry()
    began = time.time()
    readings.before_scrape(lambda: _fill(readings, rank, ranks, ended, time.time() - began))
    collector = ReadingsCollector(readings)
    collector.constant = {"run": "made-up-1", "rank": str(rank), "gpu": str(rank)}
    registry.register(collector)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(generate_latest(registry))

        def log_message(self, format: str, *args: object) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def _fill(readings: Readings, rank: int, ranks: int, ended: bool, age_s: float) -> None:
    """Set what a run shows `age_s` seconds after its start."""
    step = min(PLANNED, STEPS_PER_S * age_s)
    known = {
        "naics_world_size": float(ranks),
        "naics_training_step": step,
        "naics_training_planned_steps": float(PLANNED),
        "naics_training_phase": float(1 + min(2, int(3 * step / PLANNED))),
        "naics_training_phase_progress_ratio": 3 * step / PLANNED % 1,
        "naics_training_progress_ratio": step / PLANNED,
        "naics_process_start_time_seconds": time.time() - age_s,
        "naics_last_step_timestamp_seconds": time.time(),
        "naics_evaluation_timestamp_seconds": time.time(),
        "naics_last_step_age_seconds": 0.1,
        "naics_training_encoder_active": 1.0,
        "naics_run_goodput_ratio": 0.8,
    }
    for metric in CATALOGUE.values():
        if metric.applies == "end" and not (ended and rank == 0):
            continue
        if metric.applies in {"main", "saved"} and rank:
            continue
        if metric.kind == "histogram":
            _observe(readings, metric, step)
            continue
        for place, labels in enumerate(_labels(metric)):
            readings.set(metric.name, known.get(metric.name, _value(metric, place, age_s)), *labels)


def _observe(readings: Readings, metric: Metric, step: float) -> None:
    found = readings.histogram(metric.name)
    for _ in range(int(step) - (sum(found.counts) if found else 0)):
        readings.observe(metric.name, 0.2 if "step" in metric.name else 0.02)


def _labels(metric: Metric) -> Sequence[tuple[str, ...]]:
    """Label values of the series of a metric."""
    if metric.kind == "info":
        return [tuple(f"some {name}" for name in metric.labels)]
    if metric.name == "naics_run_outcome":
        return [(status,) for status in VALUES["status"]]
    if not metric.labels:
        return [()]
    [name] = metric.labels
    return [(value,) for value in KINDS.get(metric.name) or VALUES[name]]


def _value(metric: Metric, place: int, age_s: float) -> float:
    if metric.kind == "counter":
        return age_s * (1 + place)
    if metric.kind == "info" or metric.name == "naics_run_outcome":
        return float(place == 0)
    if metric.name == "naics_training_phase_end_step":
        return PLANNED * (1 + place) / 3
    scale = {"bytes": 8e9, "watts": 300.0, "celsius": 60.0, "seconds": 5.0}.get(metric.unit, 1.0)
    return scale * (0.6 + 0.2 * math.sin(age_s / 10 + place)) / (1 + place / 4)
