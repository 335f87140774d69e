"""Colours of series and values by the settings of a panel, as Grafana takes them."""

import re
from typing import Any

from dashboards.palette import BLUE
from dashboards.queries import Panel


def colour_of(panel: Panel, name: str) -> str | None:
    """The fixed colour of a series, None where it has none."""
    for override in panel.config["overrides"]:
        matcher = override["matcher"]
        pattern = str(matcher["options"])
        if matcher["id"] == "byRegexp":
            good = re.search(pattern.strip("/"), name) is not None
        else:
            good = pattern == name
        if good:
            for item in override["properties"]:
                if item["id"] == "color":
                    return str(item["value"]["fixedColor"])
    return None


def mapped(panel: Panel, value: float, column: str = "") -> tuple[str, str] | None:
    """Text and colour that a value stands for, None where it is just a number."""
    mappings: list[dict[str, Any]] = panel.config["defaults"].get("mappings") or []
    for override in panel.config["overrides"]:
        if override["matcher"]["options"] == column:
            for item in override["properties"]:
                mappings = item["value"] if item["id"] == "mappings" else mappings
    for mapping in mappings:
        found = mapping["options"].get(f"{value:g}")
        if found is not None:
            return str(found["text"]), str(found["color"])
    return None


def reached(panel: Panel, value: float) -> str:
    """Colour of the highest threshold that a value has reached."""
    steps = panel.config["defaults"].get("thresholds", {}).get("steps", [])
    colours = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return str(colours[-1]) if colours else BLUE
