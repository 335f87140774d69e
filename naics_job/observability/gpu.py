"""Memory of the process and of its GPU, and how busy that is; nothing here waits for the device."""

import logging
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from naics_job.observability.logs import event
from naics_job.observability.readings import Readings

log = logging.getLogger(__name__)
STATM = Path("/proc/self/statm")


def peak_rss_bytes() -> int:
    """Most memory this process has held, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def rss_bytes() -> int | None:
    """Memory this process holds now, None where the system has no /proc."""
    if not STATM.is_file():
        return None
    return int(STATM.read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def read_process(readings: Readings) -> None:
    """Set the memory of this process."""
    readings.set("naics_process_memory_bytes", float(peak_rss_bytes()), "peak")
    if (now := rss_bytes()) is not None:
        readings.set("naics_process_memory_bytes", float(now), "resident")


def read_cuda(readings: Readings, device: torch.device) -> None:
    """Set the memory of a CUDA device: the allocator's own books, and two numbers of the driver.

    Neither waits for kernels that run. Nothing is set before this process uses the device.
    """
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return
    stats = torch.cuda.memory_stats(device)
    free, total = torch.cuda.mem_get_info(device)
    allocated = stats.get("allocated_bytes.all.current", 0)
    reserved = stats.get("reserved_bytes.all.current", 0)
    kinds = {
        "allocated": allocated,
        "reserved": reserved,
        "peak": stats.get("allocated_bytes.all.peak", 0),
        "total": total,
    }
    for kind, value in kinds.items():
        readings.set("naics_gpu_memory_bytes", float(value), kind)
    headroom = free + reserved - allocated
    readings.set("naics_gpu_memory_headroom_bytes", float(headroom))


class DriverReadings:
    """Utilization, power and temperature through NVML, as far as it is there and answers.

    What fails once is not asked again: no driver, or a device without that sensor.
    """

    def __init__(self, device: torch.device) -> None:
        self.asked: dict[str, Callable[[], float]] = {
            "naics_gpu_utilization_ratio": lambda: torch.cuda.utilization(device) / 100,
            "naics_gpu_power_watts": lambda: torch.cuda.power_draw(device) / 1000,
            "naics_gpu_temperature_celsius": lambda: torch.cuda.temperature(device),
        }

    def read(self, readings: Readings) -> None:
        """Set what the driver tells."""
        import pynvml  # not worth its start where there is no GPU

        for name, ask in list(self.asked.items()):
            try:
                readings.set(name, float(ask()))
            except (pynvml.NVMLError, RuntimeError, OSError) as error:
                self.asked.pop(name, None)
                event(log, logging.INFO, "metrics.sensor_missing", metric=name, error=str(error))


def watch_memory(readings: Readings, device: torch.device) -> None:
    """Read memory and device at each scrape from now on."""
    readings.before_scrape(lambda: read_process(readings))
    if device.type == "cuda":
        driver = DriverReadings(device)
        readings.before_scrape(lambda: read_cuda(readings, device))
        readings.before_scrape(lambda: driver.read(readings))
