"""The committed dashboards as lists of panels, their queries ready to be asked."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "helm" / "naics-train" / "dashboards"
FEWEST_SCRAPES = 4  # Grafana's $__rate_interval is at least that long


@dataclass(frozen=True)
class Target:
    """A query, and what its series are called."""

    expr: str
    legend: str

    def name(self, labels: Mapping[str, str]) -> str:
        """Name of a series: the legend with its labels, or the labels themselves."""
        if not self.legend:
            return ", ".join(labels.values())
        return re.sub(r"{{\s*(\w+)\s*}}", lambda match: labels.get(match[1], ""), self.legend)


@dataclass(frozen=True)
class Panel:
    """One panel: its kind, words, unit, place on 24 columns, and queries."""

    kind: str
    title: str
    unit: str
    place: tuple[int, int, int, int]  # x, y, width, height
    targets: tuple[Target, ...]
    config: dict[str, Any]  # as Grafana has it


@dataclass(frozen=True)
class Board:
    """One dashboard; rows are panels of the kind "row"."""

    uid: str
    title: str
    panels: tuple[Panel, ...]


def boards() -> list[Board]:
    """All committed dashboards."""
    texts = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))]
    return [
        Board(text["uid"], text["title"], tuple(_panel(panel) for panel in text["panels"]))
        for text in texts
    ]


def _panel(values: dict[str, Any]) -> Panel:
    place = values["gridPos"]
    config = values.get("fieldConfig", {"defaults": {}, "overrides": []})
    asked = values.get("targets", ())
    targets = tuple(Target(each["expr"], each.get("legendFormat", "")) for each in asked)
    where = (place["x"], place["y"], place["w"], place["h"])
    unit = config["defaults"].get("unit", "none")
    return Panel(values["type"], values["title"], unit, where, targets, config)


def filled(expr: str, *, run: str, scrape_s: float, step_s: float) -> str:
    """A query with Grafana's variables replaced, as it would for all namespaces and ranks."""
    rate = max(FEWEST_SCRAPES * scrape_s, step_s + scrape_s)
    values = {
        "$__rate_interval": f"{round(rate)}s",
        "$__interval": f"{max(1, round(step_s))}s",
        "$namespace": ".*",
        "$run": run,
        "$rank": ".+",
    }
    for name, value in values.items():
        expr = expr.replace(name, value)
    return expr
