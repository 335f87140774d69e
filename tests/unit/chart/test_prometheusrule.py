"""templates/prometheusrule.yaml: the rule file as the Prometheus operator reads it."""

import yaml
from helm_chart import CHART, find, refusal, render, run_of

ON = {"alerts": {"enabled": True}}
FILE = yaml.safe_load((CHART / "rules" / "naics.yaml").read_text())


def test_by_default_there_is_none() -> None:
    assert render()["prometheusrule.yaml"].strip() == ""


def test_it_holds_the_rule_file_with_its_templates() -> None:
    rule = find("PrometheusRule", ON)
    assert rule["apiVersion"] == "monitoring.coreos.com/v1"
    assert rule["spec"] == FILE
    assert "{{ $labels.run }}" in str(rule["spec"])


def test_a_prometheus_finds_it_by_its_labels() -> None:
    values = {"alerts": {"enabled": True, "labels": {"release": "prometheus"}}}
    assert find("PrometheusRule", values)["metadata"]["labels"]["release"] == "prometheus"


def test_it_goes_with_the_release() -> None:
    notes = find("PrometheusRule", ON)["metadata"].get("annotations", {})
    assert "helm.sh/resource-policy" not in notes


def test_runbooks_are_where_the_values_say() -> None:
    base = "https://git.example.com/naics-job/blob/main/"
    values = {"alerts": {"enabled": True, "runbookBaseUrl": base}}
    groups = find("PrometheusRule", values)["spec"]["groups"]
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    assert alerts
    for alert in alerts:
        url = alert["annotations"]["runbook_url"]
        assert url == f"{base}docs/runbooks/{alert['alert']}.md"


def test_a_base_that_is_no_folder_is_refused() -> None:
    text = refusal({"alerts": {"enabled": True, "runbookBaseUrl": "git.example.com"}})
    assert "runbookBaseUrl" in text


def test_it_does_not_change_the_run() -> None:
    assert run_of("Job", ON)["metadata"]["name"] == run_of("Job")["metadata"]["name"]
