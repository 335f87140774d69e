"""templates/_probes.tpl: the pod is asked about progress, and never kept from its peers."""

from typing import Any

import pytest
from helm_chart import KINDS, container_of

NAMES = ("startupProbe", "livenessProbe", "readinessProbe")


def probes(kind: str, values: dict[str, Any] | None = None) -> dict[str, Any]:
    container = container_of(kind, values or {})
    return {name: container[name] for name in NAMES if name in container}


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_process_is_asked(kind: str) -> None:
    found = probes(kind)
    paths = {name: probe["httpGet"]["path"] for name, probe in found.items()}
    assert paths == dict(zip(NAMES, ("/healthz", "/healthz", "/readyz"), strict=True))
    assert {probe["httpGet"]["port"] for probe in found.values()} == {"metrics-0"}


@pytest.mark.parametrize("kind", KINDS)
def test_times_are_values(kind: str) -> None:
    times = {"startupSeconds": 100, "periodSeconds": 30, "timeoutSeconds": 7, "failureThreshold": 3}
    found = probes(kind, {"probes": times})
    assert {probe["periodSeconds"] for probe in found.values()} == {30}
    assert {probe["timeoutSeconds"] for probe in found.values()} == {7}
    assert found["livenessProbe"]["failureThreshold"] == 3
    assert found["startupProbe"]["failureThreshold"] == 4  # 100 s and what is left of a period


def test_pods_of_a_pytorchjob_are_ready_before_they_have_met() -> None:
    """The operator's Services name only ready pods, and processes answer once pods have met."""
    found = probes("PyTorchJob", {"nodes": 2, "probes": {"startupSeconds": 300}})
    assert set(found) == {"livenessProbe"}
    assert found["livenessProbe"]["initialDelaySeconds"] == 300


@pytest.mark.parametrize("kind", ["TrainJob", "JobSet", "Job"])
def test_other_kinds_publish_names_of_pods_that_are_not_ready(kind: str) -> None:
    assert set(probes(kind, {"nodes": 2})) == set(NAMES)


@pytest.mark.parametrize("kind", KINDS)
def test_without_metrics_nobody_answers(kind: str) -> None:
    assert probes(kind, {"metrics": {"enabled": False}}) == {}
    ports = container_of(kind, {"metrics": {"enabled": False}})["ports"]
    assert [port["name"] for port in ports] == ["pytorchjob-port"]
