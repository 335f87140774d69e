"""templates/dashboards.yaml: the dashboards as Grafana's sidecar looks for them."""

import json
from typing import Any

from helm_chart import CHART, objects, render, run_of

ON = {"dashboards": {"enabled": True}}


def dashboards(values: dict[str, Any] | None = None) -> dict[str, Any]:
    items = objects({**ON, **(values or {})})
    [found] = [item for item in items if item["metadata"]["name"] == "demo-naics-train-dashboards"]
    return found


def test_by_default_there_are_none() -> None:
    assert render()["dashboards.yaml"].strip() == ""


def test_every_file_is_in_it_as_it_is() -> None:
    data = dashboards()["data"]
    files = {path.name: path.read_text() for path in (CHART / "dashboards").glob("*.json")}
    assert {name: json.loads(text) for name, text in data.items()} == {
        name: json.loads(text) for name, text in files.items()
    }
    assert files
    assert sum(map(len, data.values())) < 1024 * 1024


def test_the_sidecars_label_and_folder() -> None:
    folder = {"dashboards": {"enabled": True, "annotations": {"grafana_folder": "naics-job"}}}
    metadata = dashboards(folder)["metadata"]
    assert metadata["labels"]["grafana_dashboard"] == "1"
    assert metadata["annotations"] == {"grafana_folder": "naics-job"}  # and goes with the release


def test_it_does_not_change_the_run() -> None:
    assert run_of("Job", ON)["metadata"]["name"] == run_of("Job")["metadata"]["name"]
