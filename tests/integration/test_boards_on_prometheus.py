"""A real Prometheus that scrapes made-up processes: rules load, every panel has data."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_up_run import made_up_run

from dashboards.picture import Drawer
from dashboards.prometheus import SERVER, Api, config, serve
from dashboards.queries import boards, filled

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        shutil.which(SERVER) is None,
        reason="prometheus is not on PATH; Debian's package prometheus has it",
    ),
]
RANKS, SCRAPE_S, LASTS_S = 2, 0.5, 20.0
PANELS = [(board, panel) for board in boards() for panel in board.panels if panel.kind != "row"]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A Prometheus that has seen a run of two ranks for a while, and its end."""
    folder = tmp_path_factory.mktemp("prometheus")
    with (
        made_up_run(RANKS, ended=True) as ports,
        serve(folder, ports, SCRAPE_S) as api,
    ):
        time.sleep(LASTS_S)
        yield api


def drawer(api: Api) -> Drawer:
    end = time.time()
    return Drawer(api, end - LASTS_S, end, SCRAPE_S)


def test_every_process_is_scraped_and_in_its_namespace(api: Api) -> None:
    up = api.instant("up == 1", time.time())
    assert len(up) == RANKS
    assert {series.labels["namespace"] for series in up} == {"local"}


def test_rules_are_evaluated_without_an_error(api: Api) -> None:
    """The API for rules tells of each rule whether its newest evaluation went well."""
    deadline = time.monotonic() + 40
    while True:
        rules = [rule for group in api.get("rules")["groups"] for rule in group["rules"]]
        if all(rule["health"] != "unknown" for rule in rules) or time.monotonic() > deadline:
            break
        time.sleep(1)
    assert len(rules) > 12
    assert [rule["name"] for rule in rules if rule["health"] != "ok"] == []


@pytest.mark.parametrize(
    ("board", "panel"), PANELS, ids=[f"{board.uid}/{panel.title}" for board, panel in PANELS]
)
def test_every_query_of_a_panel_has_data(api: Api, board: object, panel: object) -> None:
    made = drawer(api)
    for target in panel.targets:  # type: ignore[attr-defined]
        expr = filled(target.expr, run=".+", scrape_s=SCRAPE_S, step_s=made.step_s)
        found = api.range(expr, made.start, made.end, made.step_s)
        assert any(series.values for series in found), expr


def test_pictures_are_drawn(api: Api, tmp_path: Path) -> None:
    made = drawer(api)
    for board in boards():
        file = tmp_path / f"{board.uid}.png"
        made.draw(board, file)
        assert file.read_bytes().startswith(b"\x89PNG")


def test_settings_scrape_each_port() -> None:
    assert "127.0.0.1:9400" in config([9400, 9401])
