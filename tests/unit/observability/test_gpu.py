"""Memory and sensors; CUDA is imitated, as the numbers come from PyTorch's books."""

import logging
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
import torch

from naics_job.observability import gpu
from naics_job.observability.readings import Readings

DEVICE = torch.device("cuda", 1)
GIB = 2**30


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A device of 16 GiB: 6 reserved of which 4 are allocated, 1 taken by somebody else."""
    stats = {
        "allocated_bytes.all.current": 4 * GIB,
        "allocated_bytes.all.peak": 5 * GIB,
        "reserved_bytes.all.current": 6 * GIB,
    }
    fake = SimpleNamespace(asked=[], initialized=True)

    def answer(value: Any) -> Any:
        def ask(device: torch.device) -> Any:
            fake.asked.append(device)
            if isinstance(value, Exception):
                raise value
            return value

        return ask

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: fake.initialized)
    monkeypatch.setattr(torch.cuda, "memory_stats", answer(stats))
    monkeypatch.setattr(torch.cuda, "mem_get_info", answer((9 * GIB, 16 * GIB)))
    monkeypatch.setattr(torch.cuda, "utilization", answer(75))
    monkeypatch.setattr(torch.cuda, "power_draw", answer(250_000))
    monkeypatch.setattr(torch.cuda, "temperature", answer(pynvml.NVMLError_NotSupported()))
    return fake


def test_gpu_memory_and_what_is_left_of_it(cuda: Any) -> None:
    readings = Readings()
    gpu.read_cuda(readings, DEVICE)
    kinds = {labels[0]: value / GIB for labels, value in readings.series("naics_gpu_memory_bytes")}
    assert kinds == {"allocated": 4, "reserved": 6, "peak": 5, "total": 16}
    assert readings.value("naics_gpu_memory_headroom_bytes") == 11 * GIB
    assert set(cuda.asked) == {DEVICE}


def test_a_scrape_does_not_open_the_device_before_training_does(cuda: Any) -> None:
    cuda.initialized = False
    readings = Readings()
    gpu.read_cuda(readings, DEVICE)
    assert cuda.asked == []
    assert list(readings.present()) == []


def test_a_sensor_that_is_missing_is_told_once_and_left_out(
    cuda: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    readings, driver = Readings(), gpu.DriverReadings(DEVICE)
    for _ in range(3):
        driver.read(readings)
    assert readings.value("naics_gpu_utilization_ratio") == 0.75
    assert readings.value("naics_gpu_power_watts") == 250
    assert readings.value("naics_gpu_temperature_celsius") is None
    (record,) = caplog.records
    assert record.fields["metric"] == "naics_gpu_temperature_celsius"  # type: ignore[attr-defined]


def test_memory_of_this_process_grows_with_what_it_holds() -> None:
    readings = Readings()
    gpu.watch_memory(readings, torch.device("cpu"))
    readings.refresh()
    before = readings.value("naics_process_memory_bytes", "resident")
    held = torch.ones(16 * 2**20)  # 64 MiB
    readings.refresh()
    after = readings.value("naics_process_memory_bytes", "resident")
    peak = readings.value("naics_process_memory_bytes", "peak")
    assert before is not None
    assert after is not None
    assert peak is not None
    assert after - before > 0.9 * held.nbytes
    assert peak >= held.nbytes
    assert not readings.series("naics_gpu_memory_bytes")
