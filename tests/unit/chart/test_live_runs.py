"""templates/_cluster.tpl: no second run beside one that is not finished, unless to replace it.

Offline, `lookup` finds nothing, so a template of this test hands the chart what it would find.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
from helm_chart import CHART, KINDS, merged, refusal, render, run_of

PROBE = """\
{{- $objects := .Files.Get "found.json" | fromJsonArray }}
{{- include "naics-train.checkLive" (dict "root" . "objects" $objects) }}
{{- if .Files.Get "ask.txt" }}
{{- include "naics-train.checkKnown" . }}
{{- end }}
checked: true
"""
Charts = Callable[..., helm.Chart]


@pytest.fixture
def beside(tmp_path: Path) -> Charts:
    """The chart as it is on a cluster that holds some objects."""

    def load(found: list[dict[str, Any]], **files: str) -> helm.Chart:
        folder = tmp_path / f"chart-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(CHART, folder)
        (folder / "found.json").write_text(json.dumps(found))
        (folder / "templates" / "probe.yaml").write_text(PROBE)
        for name, text in files.items():
            (folder / f"{name}.txt").write_text(text)
        return helm.Chart.load(folder)

    return load


def live(kind: str, name: str = "demo-naics-train-00000000", **changes: Any) -> dict[str, Any]:
    """A run of the release as the API server gives it back."""
    labels = {"app.kubernetes.io/instance": "demo", "naics.dev/run": name}
    item = {"kind": kind, "metadata": {"name": name, "labels": labels}}
    return merged(item, changes)


def ended(kind: str, condition: str, status: str = "True") -> dict[str, Any]:
    conditions = [{"type": "Running", "status": "True"}, {"type": condition, "status": status}]
    return live(kind, status={"conditions": conditions})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [{}, {"conditions": [{"type": "Running", "status": "True"}]}])
def test_a_run_that_goes_on_is_not_joined_by_another(
    beside: Charts, kind: str, status: dict[str, Any]
) -> None:
    message = refusal({}, chart=beside([live(kind, status=status)]), is_upgrade=True)
    assert f"{kind} demo-naics-train-00000000 of this release is not finished" in message
    assert "set run.replace=true" in message


@pytest.mark.parametrize(
    ("kind", "condition"),
    [
        *(("PyTorchJob", "Succeeded"), ("PyTorchJob", "Failed")),
        *(("Job", "Complete"), ("Job", "Failed")),
        *(("JobSet", "Completed"), ("JobSet", "Failed")),
        *(("TrainJob", "Complete"), ("TrainJob", "Failed")),
    ],
)
def test_one_that_has_ended_is(beside: Charts, kind: str, condition: str) -> None:
    assert "checked" in render({}, chart=beside([ended(kind, condition)]))["probe.yaml"]


@pytest.mark.parametrize(
    ("kind", "spec"),
    [("PyTorchJob", {"runPolicy": {"suspend": True}}), ("Job", {"suspend": True})],
)
def test_one_that_was_cancelled_is_but_not_one_that_only_waits(
    beside: Charts, kind: str, spec: dict[str, Any]
) -> None:
    cancelled = {"annotations": {"naics.dev/cancelled": "2026-01-01T00:00:00+00:00"}}
    stopped, waiting = live(kind, spec=spec, metadata=cancelled), live(kind, spec=spec)
    resumed = live(kind, metadata=cancelled)
    assert "checked" in render({}, chart=beside([stopped]))["probe.yaml"]
    for found in (waiting, resumed):
        assert "not finished" in refusal({}, chart=beside([stopped, found]))


def test_a_condition_that_is_no_longer_true_is_no_end(beside: Charts) -> None:
    found = [ended("PyTorchJob", "Failed", status="False")]
    assert "not finished" in refusal({}, chart=beside(found))


def test_the_same_run_is_no_other(beside: Charts) -> None:
    name = run_of("PyTorchJob")["metadata"]["name"]
    assert "checked" in render({}, chart=beside([live("PyTorchJob", name)]))["probe.yaml"]


def test_a_replacement_is_allowed_and_cancels_first(beside: Charts) -> None:
    files = render({"run": {"replace": True}}, chart=beside([live("Job")]), is_upgrade=True)
    assert "pre-upgrade" in files["hooks/cancel-job.yaml"]


@pytest.mark.parametrize(
    "labels",
    [
        {"app.kubernetes.io/instance": "another"},
        {"naics.dev/run": "another"},  # a Job that belongs to a run, not a run
    ],
)
def test_objects_of_others_do_not_matter(beside: Charts, labels: dict[str, str]) -> None:
    other = live("Job", metadata={"labels": labels})
    bare = {"kind": "Job", "metadata": {"name": "bare"}}
    assert "checked" in render({}, chart=beside([other, bare]))["probe.yaml"]


@pytest.fixture
def asking(beside: Charts) -> helm.Chart:
    """The chart, asking what the cluster has definitions of."""
    return beside([], ask="yes")


@pytest.mark.parametrize("kind", ["PyTorchJob", "TrainJob", "JobSet"])
def test_a_cluster_without_the_operator_is_told_apart(asking: helm.Chart, kind: str) -> None:
    message = refusal({"kind": kind}, chart=asking)
    assert f"kind is {kind}, but this cluster does not know {kind}" in message
    assert "set kind=Job" in message
    known = [f"{run_of(kind)['apiVersion']}/{kind}"]
    assert "checked" in render({"kind": kind}, chart=asking, api_versions=known)["probe.yaml"]


def test_a_monitor_needs_its_operator_too(asking: helm.Chart) -> None:
    known = ["batch/v1/Job"]
    assert "checked" in render({"kind": "Job"}, chart=asking, api_versions=known)["probe.yaml"]
    monitor = {"kind": "Job", "podMonitor": {"enabled": True}}
    assert "podMonitor.enabled=false" in refusal(monitor, chart=asking, api_versions=known)
    known.append("monitoring.coreos.com/v1/PodMonitor")
    assert "checked" in render(monitor, chart=asking, api_versions=known)["probe.yaml"]
    alerts = {"kind": "Job", "alerts": {"enabled": True}}
    assert "alerts.enabled=false" in refusal(alerts, chart=asking, api_versions=known)
    known.append("monitoring.coreos.com/v1/PrometheusRule")
    assert "checked" in render(alerts, chart=asking, api_versions=known)["probe.yaml"]
