"""Where a process will train, how long it lingers, and what goes under which name."""

import math
import os
import signal
import threading
import time
from contextlib import nullcontext

import pytest
import torch

from naics_job.config.load import load_config
from naics_job.errors import ConfigError, TransientError
from naics_job.evaluation.metrics import METRICS
from naics_job.loss.objective import TERMS
from naics_job.observability.metrics import CATALOGUE
from naics_job.observability.readings import Readings
from naics_job.stopping import Stop, StopNow, listening
from naics_job.training import telemetry
from naics_job.training.exported import FAMILIES, LOGGED, ReadingsLogger


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


@pytest.mark.parametrize(
    ("devices", "local_rank", "device"),
    [
        ("1", "0", "cuda:0"),
        ("4", "2", "cuda:2"),
        ("[3,1]", "1", "cuda:1"),
        ("'5,6'", "0", "cuda:5"),
    ],
)
def test_the_gpu_of_a_process(
    devices: str, local_rank: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(None, None, [f"training.trainer.devices={devices}"]).config
    monkeypatch.setenv("LOCAL_RANK", local_rank)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert str(telemetry.device_of(config)) == device
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert str(telemetry.device_of(config)) == "cpu"


@pytest.mark.parametrize(
    ("devices", "processes", "device"), [("[2,3]", 4, "cuda:1"), ("[2,3]", 2, "cuda:3")]
)
def test_the_gpu_of_a_process_that_was_launched(
    devices: str, processes: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Lightning does it: a list of another length than there are processes does not count."""
    config = load_config(None, None, [f"training.trainer.devices={devices}"]).config
    launched = {"TORCHELASTIC_RUN_ID": "r", "LOCAL_RANK": "1"}
    sizes = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    for name, value in {**launched, **sizes}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert str(telemetry.device_of(config)) == device


@pytest.mark.parametrize(
    ("setting", "in_pod", "seconds"),
    [("null", False, 0), ("null", True, 30), ("7", False, 7), ("0", True, 0)],
)
def test_only_a_pod_lingers_unless_it_is_set(
    setting: str, in_pod: bool, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if in_pod:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    config = load_config(None, None, [f"metrics.linger_s={setting}"]).config
    assert telemetry.linger_of(config) == seconds


@pytest.fixture
def lingered(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """For how long each body lingered."""
    seconds: list[float] = []
    monkeypatch.setattr(telemetry.Telemetry, "linger", lambda self, stop, s: seconds.append(s))
    return seconds


@pytest.mark.parametrize(
    ("failure", "trained", "lingers"),
    [
        (None, True, True),
        (None, False, False),
        (ConfigError("x"), True, True),
        (ValueError("x"), True, True),
        (TransientError("x"), True, False),
        (StopNow(15), True, False),
        (KeyboardInterrupt(), True, False),
    ],
)
def test_who_lingers(
    failure: BaseException | None, trained: bool, lingers: bool, lingered: list[float]
) -> None:
    """Who trained, unless time is short or the same command starts again at once."""
    config = load_config(None, None, ["metrics.port=0", "metrics.linger_s=5"]).config
    stop = Stop()
    passed_on = pytest.raises(type(failure)) if failure is not None else nullcontext()
    with passed_on, telemetry.telemetry(config, stop) as shown:
        assert shown is not None
        shown.health.training = trained
        if failure is not None:
            raise failure
    stop.close()
    assert lingered == ([5.0] if lingers else [])


def test_a_signal_ends_the_lingering_and_changes_nothing_else() -> None:
    config = load_config(None, None, ["metrics.port=0", "metrics.linger_s=3600"]).config
    with listening() as stop, telemetry.telemetry(config, stop) as shown:
        assert shown is not None
        shown.health.training = True
        timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
    timer.join()


def test_every_logged_name_leads_to_a_declared_metric() -> None:
    for metric, labels in LOGGED.values():
        assert len(labels) == len(CATALOGUE[metric].labels)
    for metric in FAMILIES.values():
        assert len(CATALOGUE[metric].labels) == 1
    assert {f"train/{term}" for term in TERMS} <= set(LOGGED)


def test_shares_become_readings() -> None:
    readings = Readings()
    logger = ReadingsLogger(readings)
    logger.log_metrics({"train/share/radius": 0.25, "train/mechanism/mining": 0.5}, 10)
    logger.log_metrics({"train/share/radius": 0.125}, 60)
    assert readings.value("naics_training_gradient_share_ratio", "radius") == 0.125
    assert readings.value("naics_training_mechanism_share_ratio", "mining") == 0.5
    assert readings.value("naics_training_loss", "share/radius") is None


def test_what_lightning_logs_becomes_readings() -> None:
    readings = Readings()
    logger = ReadingsLogger(readings)
    logger.log_metrics(
        {"train/distillation": 0.5, "train/gradient_norm": math.inf, "epoch": 3.0}, 4
    )
    logger.log_metrics({"train/gradient_norm": 2.0, "somebody/else": 1.0}, 5)
    assert readings.value("naics_training_loss", "distillation") == 0.5
    assert readings.value("naics_training_gradient_norm") == 2.0
    assert readings.value("naics_training_nonfinite_total", "gradient") == 1
    assert readings.value("naics_evaluation_step") is None
    before = time.time()
    scores = {f"all/{name}": 0.9 for name in METRICS}
    logger.log_metrics({**scores, "heldout/map": 0.8, "health/radius/level_2": 1.5}, 6)
    assert readings.value("naics_evaluation_score", "ndcg@10") == 0.9
    assert readings.value("naics_evaluation_heldout_score", "map") == 0.8
    assert readings.value("naics_embedding_radius", "2") == 1.5
    assert readings.value("naics_evaluation_step") == 6
    at = readings.value("naics_evaluation_timestamp_seconds")
    assert at is not None
    assert before <= at <= time.time()
