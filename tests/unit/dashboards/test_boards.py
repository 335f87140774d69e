"""The committed dashboards: up to date, of metrics that exist, and by the rules of the linter.

The rules are those of Grafana's dashboard-linter that apply to Prometheus. Instead of by job and
instance, panels choose by namespace, run and rank: a run that restarts changes its instance, and
what a Pushgateway holds has none. helm/naics-train/dashboards/.lint says so too.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser as promql
import pytest
import yaml
from grafana_foundation_sdk.models import units
from promql import (
    braced,
    family,
    result_labels,
    selectors,
    walk,
)

from dashboards.__main__ import documents
from dashboards.palette import OKABE_ITO
from dashboards.queries import FOLDER, filled
from naics_job.observability.metrics import CATALOGUE

FILES = sorted(FOLDER.glob("*.json"))
BOARDS: dict[str, dict[str, Any]] = {path.stem: json.loads(path.read_text()) for path in FILES}
PANELS = [(name, panel) for name in BOARDS for panel in BOARDS[name]["panels"]
          if panel["type"] != "row"]  # fmt: skip
QUERIES = [(name, panel, target) for name, panel in PANELS for target in panel["targets"]]
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
MAX_BYTES = 1024 * 1024
UNITS = {value for name, value in vars(units).items() if name[0].isupper()}
TITLES = {
    "naics-training-run": "naics-job: Training run",
    "naics-fleet": "naics-job: Fleet",
    "naics-distributed": "naics-job: Distributed",
}


def label(part: tuple[Any, ...]) -> str:
    return "/".join(str(item.get("title") or item["refId"]) if isinstance(item, dict) else item
                    for item in part)  # fmt: skip


every_board = pytest.mark.parametrize("board", BOARDS.values(), ids=list(BOARDS))
every_panel = pytest.mark.parametrize(
    "panel", [panel for _, panel in PANELS], ids=[label(part) for part in PANELS]
)
every_query = pytest.mark.parametrize(
    ("panel", "target"), [part[1:] for part in QUERIES], ids=[label(part) for part in QUERIES]
)


def parse(expr: str) -> Any:
    return promql.parse(filled(expr, run=".+", scrape_s=30, step_s=15))


def parsed(target: dict[str, Any]) -> Any:
    return parse(target["expr"])


def test_the_committed_files_are_what_the_code_makes() -> None:
    committed = {path.name: path.read_text() for path in FILES}
    assert committed == documents(), "run `make dashboards`"


@every_board
def test_titles_and_uids(board: dict[str, Any]) -> None:
    assert board["title"] == TITLES[board["uid"]]
    assert board["description"]
    assert board["tags"] == ["naics-job"]


def test_one_config_map_holds_all() -> None:
    assert sum(path.stat().st_size for path in FILES) < MAX_BYTES


@every_board
def test_it_is_not_to_be_edited_in_grafana(board: dict[str, Any]) -> None:
    assert board["editable"] is False


@every_board
def test_variables(board: dict[str, Any]) -> None:
    source, *others = board["templating"]["list"]
    assert (source["name"], source["label"]) == ("datasource", "Data source")
    assert (source["type"], source["query"]) == ("datasource", "prometheus")
    assert [variable["name"] for variable in others] == ["namespace", "run", "rank"]
    for variable in others:
        assert variable["type"] == "query"
        assert variable["datasource"] == SOURCE
        assert variable["refresh"] == 2  # on a change of the time range
        query = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"])
        assert query is not None
        assert query[2] == variable["name"]
        assert query[2] in result_labels(parse(query[1]), {})


@every_board
def test_annotations_at_phases_and_starts(board: dict[str, Any]) -> None:
    phases, starts = board["annotations"]["list"]
    assert "naics_training_phase_active" in phases["expr"]
    assert "naics_process_start_time_seconds" in starts["expr"]
    assert starts["useValueForTime"] is True
    for annotation in (phases, starts):
        assert annotation["datasource"] == SOURCE
        assert annotation["enable"] is True
        labels = result_labels(parsed(annotation), {})
        assert braced(annotation["titleFormat"] + annotation["textFormat"]) <= labels


@every_board
def test_panels_have_numbers_and_places_of_their_own(board: dict[str, Any]) -> None:
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y)
                 for x in range(place["w"]) for y in range(place["h"])}  # fmt: skip
        assert not cells & taken, panel["title"]
        taken |= cells


@every_panel
def test_a_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS


@every_panel
def test_a_panel_asks_the_chosen_source(panel: dict[str, Any]) -> None:
    assert panel["datasource"] == SOURCE
    assert panel["targets"]
    assert all(target["datasource"] == SOURCE for target in panel["targets"])


def colours(value: Any) -> Iterator[str]:
    """Every colour in a panel, wherever it is written."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key in {"color", "fixedColor"} and isinstance(item, str):
                yield item
            yield from colours(item)
    elif isinstance(value, list):
        for item in value:
            yield from colours(item)


@every_panel
def test_colours_can_be_told_apart(panel: dict[str, Any]) -> None:
    """Those of Okabe and Ito, or the scale from yellow to blue; never red against green."""
    assert set(colours(panel)) <= set(OKABE_ITO)
    mode = panel["fieldConfig"]["defaults"]["color"]["mode"]
    assert mode in {"continuous-YlBl", "thresholds"}
    assert mode != "thresholds" or panel["type"] != "timeseries"


@every_query
def test_a_query_reads_what_exists(panel: dict[str, Any], target: dict[str, Any]) -> None:
    labels = result_labels(parsed(target), {})
    assert braced(target.get("legendFormat") or "") <= labels


@every_query
def test_a_query_is_about_the_chosen_runs(panel: dict[str, Any], target: dict[str, Any]) -> None:
    for part in selectors(parsed(target)):
        matched = {matcher.name: matcher.value for matcher in part.matchers.matchers}
        assert (matched["namespace"], matched["run"]) == (".*", ".+"), part.name
        assert matched.get("rank", ".+") == ".+", "the variable, or any rank"


@every_query
def test_rates_go_by_the_interval_of_the_scrapes(
    panel: dict[str, Any], target: dict[str, Any]
) -> None:
    assert len(re.findall(r"\birate\(|\brate\(", target["expr"])) == target["expr"].count(
        "[$__rate_interval]"
    )


@every_query
def test_counters_are_read_as_rates(panel: dict[str, Any], target: dict[str, Any]) -> None:
    """But those that say how much there was so far, which .lint names."""
    lint = yaml.safe_load((FOLDER / ".lint").read_text())["exclusions"]
    named = {entry["panel"] for entry in lint["target-counter-agg-rule"]["entries"]}
    expr = parsed(target)
    ranged = {
        call.args[0].vector_selector.name
        for call in walk(expr)
        if isinstance(call, promql.Call) and call.func.name in {"rate", "irate", "increase"}
    }
    read = {part.name for part in selectors(expr)}
    counters = {name for name in read if family(name) in CATALOGUE
                and CATALOGUE[family(name)].kind == "counter"}  # fmt: skip
    assert counters <= ranged or panel["title"] in named


def test_exclusions_of_the_linter_are_of_panels_that_exist() -> None:
    lint = yaml.safe_load((FOLDER / ".lint").read_text())["exclusions"]
    titles = {board["title"]: {panel["title"] for panel in board["panels"]}
              for board in BOARDS.values()}  # fmt: skip
    for rule in lint.values():
        assert rule["reason"]
        for entry in rule.get("entries", []):
            assert entry["panel"] in titles[entry["dashboard"]]
