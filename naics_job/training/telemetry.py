"""What a run shows to the outside while it goes on, and how that begins and ends."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from naics_job.config.load import LoadedConfig
from naics_job.config.schema import Config
from naics_job.distributed import is_main, rank, world_size
from naics_job.errors import TransientError
from naics_job.observability.cluster import in_pod
from naics_job.observability.gpu import watch_memory
from naics_job.observability.health import Health
from naics_job.observability.readings import Readings
from naics_job.stopping import Stop, StopNow, StoppedBySignalError
from naics_job.training.build import trains_on_gpu
from naics_job.training.record import RunRecord, versions
from naics_job.training.trainer import as_launched

if TYPE_CHECKING:
    from naics_job.observability.exporter import Exporter
    from naics_job.observability.pushgateway import Pushgateway

POD_LINGER_S = 30.0  # two scrapes at Prometheus's usual pace
POLL_S = 0.2
NO_LINGER = (StoppedBySignalError, StopNow, KeyboardInterrupt, TransientError)
OUTCOMES = ("finished", "stopped", "failed")


@dataclass(frozen=True)
class Telemetry:
    """The readings of this process and what serves them."""

    readings: Readings
    health: Health
    exporter: "Exporter"
    pushgateway: "Pushgateway | None"

    def begin(self, loaded: LoadedConfig, run_id: str) -> None:
        """Show the metrics of a run; the processes have joined."""
        config, set_value = loaded.config, self.readings.set
        device = device_of(config)
        set_value("naics_build_info", 1.0, *build_labels())
        set_value("naics_run_info", 1.0, config.experiment_name, loaded.hash)
        set_value("naics_process_start_time_seconds", self.started_at())
        set_value("naics_world_size", float(world_size()))
        gpu = "none" if device.type == "cpu" else str(device.index)
        again = self.exporter.collector.constant is not None  # the run to resume was another one
        self.exporter.show(run=run_id, rank=str(rank()), gpu=gpu)
        if again:
            return
        watch_memory(self.readings, device)
        if self.pushgateway is not None and is_main():
            self.pushgateway.forget()

    def started_at(self) -> float:
        """Unix time when the readings began."""
        return time.time() - (time.monotonic() - self.health.began)

    def outcome(self, record: RunRecord) -> None:
        """Show how the run ended; for rank 0, at its very end."""
        self.health.ended = True
        self.readings.one_hot("naics_run_outcome", record.status, OUTCOMES)
        self.readings.set("naics_run_exit_code", float(record.exit_code or 0))
        if record.goodput is not None:
            self.readings.set("naics_run_goodput_ratio", record.goodput)
        if self.pushgateway is not None:
            self.pushgateway.push()

    def linger(self, stop: Stop, seconds: float) -> None:
        """Go on answering for the last scrapes, unless a signal says that time is short."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and stop.noticed(min(left, POLL_S)) is None:
            self.exporter.revive()


@contextmanager
def telemetry(config: Config, stop: Stop) -> Iterator[Telemetry | None]:
    """Serve the metrics of this process for the length of the body and of `metrics.linger_s`.

    None where metrics are switched off.

    Raises:
        ConfigError: the port is taken and may not be another.
    """
    if not config.metrics.enabled:
        yield None
        return

    from naics_job.observability.exporter import Exporter
    from naics_job.observability.pushgateway import Pushgateway

    readings, health = Readings(), Health(config.metrics)
    exporter = Exporter(readings, health)
    url, name = config.metrics.pushgateway, config.experiment_name
    gateway = Pushgateway(url, name, exporter.collector) if url is not None else None
    exporter.start(config.metrics, int(os.environ.get("LOCAL_RANK", "0")))
    shown = Telemetry(readings, health, exporter, gateway)
    try:
        yield shown
    finally:
        health.ended = True
        seconds = linger_of(config)
        if seconds and health.training and not isinstance(sys.exception(), NO_LINGER):
            stop.ignore()
            shown.linger(stop, seconds)
        exporter.close()


def linger_of(config: Config) -> float:
    """Seconds for which a process answers after the end of its run."""
    if config.metrics.linger_s is not None:
        return config.metrics.linger_s
    return POD_LINGER_S if in_pod() else 0.0


def device_of(config: Config) -> torch.device:
    """The device on which Lightning will train in this process."""
    if not trains_on_gpu(config):
        return torch.device("cpu")
    local, trainer = int(os.environ.get("LOCAL_RANK", "0")), config.training.trainer
    devices = {**trainer, **as_launched(trainer)}.get("devices")
    if isinstance(devices, str) and "," in devices:
        devices = [int(number) for number in devices.split(",")]
    if isinstance(devices, list | tuple):
        return torch.device("cuda", int(devices[local]))
    return torch.device("cuda", local)


def build_labels() -> tuple[str, ...]:
    """Values of the labels of naics_build_info."""
    found = versions()
    names = ("naics-job", "python", "torch", "lightning")
    return (*(found[name] for name in names), os.environ.get("NAICS_IMAGE", ""))
