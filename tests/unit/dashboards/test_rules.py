"""The rule file: metrics and labels that exist, and what every alert must say."""

import re
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml
from promql import labels_of, result_labels, selectors

ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "helm" / "naics-train" / "rules" / "naics.yaml"
GROUPS: list[dict[str, Any]] = yaml.safe_load(FILE.read_text())["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDS = {rule["record"]: rule for rule in RULES if "record" in rule}


def recorded() -> dict[str, frozenset[str]]:
    """Labels of what the rules record, in their order: a rule may read those before it."""
    known: dict[str, frozenset[str]] = {}
    for name, rule in RECORDS.items():
        known[name] = result_labels(promql.parse(rule["expr"]), known)
    return known


def test_there_are_the_alerts_and_records_that_on_call_needs() -> None:
    assert len(ALERTS) >= 12
    assert {"goodput", "training_steps", "step_seconds"} <= {
        part for name in RECORDS for part in ("goodput", "training_steps", "step_seconds")
        if part in name
    }  # fmt: skip


@pytest.mark.parametrize("name", [*ALERTS, *RECORDS])
def test_metrics_and_labels_exist(name: str) -> None:
    rule = ALERTS.get(name) or RECORDS[name]
    labels = result_labels(promql.parse(rule["expr"]), recorded())
    assert labels >= {"namespace", "run"}  # whatever it says, it says about a run


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_what_and_what_to_do(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url"}
    assert "$labels.run" in notes["summary"]
    assert notes["runbook_url"] == f"docs/runbooks/{name}.md"


@pytest.mark.parametrize("name", ALERTS)
def test_the_labels_in_its_text_exist(name: str) -> None:
    text = " ".join(ALERTS[name]["annotations"].values())
    known = result_labels(promql.parse(ALERTS[name]["expr"]), recorded())
    assert set(re.findall(r"\$labels\.(\w+)", text)) <= known


@pytest.mark.parametrize("name", ALERTS)
def test_its_runbook_names_what_it_reads_and_what_to_do(name: str) -> None:
    page = (ROOT / "docs" / "runbooks" / f"{name}.md").read_text()
    assert page.startswith(f"# {name}\n")
    for heading in ("## What it means", "## How to see why", "## What to do"):
        assert heading in page
    commands = "\n".join(re.findall(r"```\w*\n(.*?)```", page, re.DOTALL))
    assert "naics" in commands or "kubectl" in commands


def test_every_page_is_of_an_alert() -> None:
    pages = {path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")}
    assert pages - {"README"} == set(ALERTS)


def test_queries_in_runbooks_read_what_exists() -> None:
    for path in (ROOT / "docs" / "runbooks").glob("*.md"):
        for query in re.findall(r"```promql\n(.*?)```", path.read_text(), re.DOTALL):
            result_labels(promql.parse(query), recorded())


@pytest.mark.parametrize("name", sorted(set(ALERTS) - {"NaicsNonFiniteLoss"}))
def test_an_alert_asks_whether_the_run_has_ended(name: str) -> None:
    """All but the one about a loss by which a run ends."""
    read = {part.name for part in selectors(promql.parse(ALERTS[name]["expr"]))}
    assert "naics_run_outcome" in read


def test_a_metric_that_is_not_there_is_noticed() -> None:
    with pytest.raises(KeyError):
        labels_of("naics_training_stepp")
    with pytest.raises(AssertionError):
        result_labels(promql.parse('naics_training_step{phase="1"}'), {})
    with pytest.raises(AssertionError):
        result_labels(promql.parse("sum by (term) (naics_training_step)"), {})
