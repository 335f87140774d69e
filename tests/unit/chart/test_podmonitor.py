"""templates/podmonitor.yaml: every process is scraped."""

import pytest
from helm_chart import KINDS, container_of, find, merged, render, template_of

MONITOR = {"podMonitor": {"enabled": True, "labels": {"release": "prometheus"}}}


@pytest.mark.parametrize("count", [1, 8])
def test_it_has_an_endpoint_per_process(count: int) -> None:
    values = merged(MONITOR, {"gpu": {"count": count}})
    endpoints = find("PodMonitor", values)["spec"]["podMetricsEndpoints"]
    ports = {port["name"] for port in container_of("PyTorchJob", values)["ports"]}
    assert [entry["port"] for entry in endpoints] == [f"metrics-{rank}" for rank in range(count)]
    assert {entry["port"] for entry in endpoints} <= ports
    assert {(entry["interval"], entry["scrapeTimeout"]) for entry in endpoints} == {("15s", "10s")}


@pytest.mark.parametrize("kind", KINDS)
def test_it_selects_the_pods_of_any_run_of_the_release(kind: str) -> None:
    values = merged(MONITOR, {"kind": kind})
    selected = find("PodMonitor", values)["spec"]["selector"]["matchLabels"]
    assert selected.items() <= template_of(kind, MONITOR)["metadata"]["labels"].items()
    assert "naics.dev/run" not in selected


def test_it_has_the_labels_prometheus_looks_for() -> None:
    assert find("PodMonitor", MONITOR)["metadata"]["labels"]["release"] == "prometheus"


def test_it_is_left_out_by_default() -> None:
    assert render()["podmonitor.yaml"].strip() == ""
