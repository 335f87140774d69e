"""Prometheus's own tests of the rules: each alert fires when it should, and only then."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "helm" / "naics-train" / "rules" / "naics.yaml"
TESTS = ROOT / "tests" / "rules"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not on PATH; Debian's package prometheus has it"
)
simulated = pytest.mark.integration  # a minute in all: each evaluates every rule for half an hour
MOST_STALLED_S = 120


def alerts() -> list[str]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule]


def cases(alert: str) -> list[dict[str, Any]]:
    """The checks of an alert, each with what its series are called."""
    tests = yaml.safe_load((TESTS / f"{alert}.yaml").read_text())["tests"]
    return [
        {**check, "series": " ".join(entry["series"] for entry in test["input_series"])}
        for test in tests
        for check in test["alert_rule_test"]
        if check["alertname"] == alert
    ]


def promtool(*arguments: str | Path) -> str:
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("alert", alerts())
def test_an_alert_has_cases_for_and_against(alert: str) -> None:
    fires = [bool(case["exp_alerts"]) for case in cases(alert)]
    assert any(fires)
    assert not all(fires)


@pytest.mark.parametrize("alert", sorted(set(alerts()) - {"NaicsNonFiniteLoss"}))
def test_an_alert_is_silent_after_the_end_of_the_run(alert: str) -> None:
    ended = [case for case in cases(alert) if "naics_run_outcome" in case["series"]]
    assert ended
    assert not any(case["exp_alerts"] for case in ended)


def test_there_are_no_cases_of_other_alerts() -> None:
    assert {path.stem for path in TESTS.glob("*.yaml")} == {*alerts(), "recording"}


@needs_promtool
def test_prometheus_reads_the_rules() -> None:
    assert "SUCCESS" in promtool("check", "rules", RULES)


@simulated
@needs_promtool
@pytest.mark.parametrize("name", sorted(path.stem for path in TESTS.glob("*.yaml")))
def test_rules_do_what_their_cases_say(name: str) -> None:
    promtool("test", "rules", TESTS / f"{name}.yaml")


@simulated
@needs_promtool
@pytest.mark.parametrize("scrape_s", [15, 30])
def test_a_stalled_run_is_heard_within_two_minutes(scrape_s: int, tmp_path: Path) -> None:
    """Whenever the last step was between two scrapes: a clock of its own for each second."""
    tests = [_stall(last_step_s, scrape_s) for last_step_s in range(60, 60 + scrape_s, 5)]
    text = {"rule_files": [str(RULES)], "evaluation_interval": "15s", "tests": tests}
    file = tmp_path / "stall.yaml"
    file.write_text(yaml.safe_dump(text))
    promtool("test", "rules", file)


def _stall(last_step_s: int, scrape_s: int) -> dict[str, Any]:
    """A run with a step each second, the last one at `last_step_s`, seen every `scrape_s`."""
    times = range(0, 400, scrape_s)
    ages = " ".join(str(max(0, time - last_step_s)) for time in times)
    steps = " ".join(str(min(time, last_step_s)) for time in times)
    own = '{namespace="ml",run="r1",rank="0"}'
    series = {
        f"naics_last_step_age_seconds{own}": ages,
        f"naics_training_step_seconds_sum{own}": steps,
        f"naics_training_step_seconds_count{own}": steps,
    }
    heard = 'count(ALERTS{alertname="NaicsTrainingStalled",alertstate="firing"})'
    return {
        "interval": f"{scrape_s}s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": heard, "eval_time": f"{last_step_s + 60}s", "exp_samples": []},
            {
                "expr": heard,
                "eval_time": f"{last_step_s + MOST_STALLED_S}s",
                "exp_samples": [{"labels": "{}", "value": 1}],
            },
        ],
    }
