"""templates/NOTES.txt: the next commands, and what would go wrong without a word."""

from typing import Any

import pytest
from helm_chart import KINDS, find, merged, objects, render, run_of


def notes(values: dict[str, Any]) -> str:
    return render(values)["NOTES.txt"]


@pytest.mark.parametrize("kind", KINDS)
def test_they_name_the_run_in_every_command(kind: str) -> None:
    text = notes({"kind": kind})
    run = run_of(kind)["metadata"]["name"]
    for command in ("logs", "wait", "cancel"):
        assert f"naics-embedder job {command} {run} --namespace training" in text
    assert "helm test demo --namespace training" in text
    assert "port-forward --namespace training" in text


@pytest.mark.parametrize("kind", KINDS)
def test_they_remove_all_that_uninstall_leaves(kind: str) -> None:
    values = merged(
        {"kind": kind, "events": {"enabled": True}},
        {"podMonitor": {"enabled": True}, "networkPolicy": {"enabled": True}},
    )
    kept = {
        item["kind"].lower()
        for item in objects(values)
        if item["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"
    }
    [line] = [line for line in notes(values).splitlines() if "kubectl delete" in line]
    assert set(line.split()[2].split(",")) == kept
    assert "kubectl delete" not in notes(merged(values, {"run": {"keep": False}}))


def test_they_warn_of_a_monitor_that_prometheus_would_pass_over() -> None:
    monitor: dict[str, Any] = {"podMonitor": {"enabled": True}}
    assert "WARNING: podMonitor.labels" in notes(monitor)
    labelled = merged(monitor, {"podMonitor": {"labels": {"release": "prometheus"}}})
    assert "WARNING" not in notes(labelled)


def test_they_warn_of_alerts_that_prometheus_would_pass_over() -> None:
    alerts: dict[str, Any] = {"alerts": {"enabled": True}}
    assert "WARNING: alerts.labels" in notes(alerts)
    labelled = merged(alerts, {"alerts": {"labels": {"release": "prometheus"}}})
    assert "WARNING" not in notes(labelled)


def test_they_warn_of_a_policy_without_a_monitor() -> None:
    values = {"networkPolicy": {"enabled": True}}
    assert "podMonitor.enabled is false" in notes(values)
    assert "WARNING" not in notes({})


def test_they_warn_of_a_time_to_live_that_the_operator_forgets() -> None:
    run = {"run": {"ttlSecondsAfterFinished": 600}}
    assert "WARNING: the training operator" in notes(run)
    assert "WARNING" not in notes(merged(run, {"kind": "Job"}))


def test_they_leave_out_what_is_switched_off() -> None:
    text = notes({"metrics": {"enabled": False}, "test": {"enabled": False}})
    assert "port-forward" not in text
    assert "helm test" not in text


def test_the_first_pod_is_found_by_its_index_where_names_are_random() -> None:
    assert f"pod/{find('ConfigMap')['metadata']['name']}-worker-0" in notes({})
    assert "batch.kubernetes.io/job-completion-index=0" in notes({"kind": "Job"})
