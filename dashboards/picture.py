"""Draw what Grafana would show: `python -m dashboards.picture URL FOLDER`.

Asks a Prometheus for the queries of each dashboard, over the time in which it saw runs, and writes
one picture per dashboard.
"""

import argparse
import time
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.ticker import MaxNLocator, NullFormatter

from dashboards.colours import colour_of, mapped, reached
from dashboards.palette import OKABE_ITO
from dashboards.prometheus import Api, PrometheusError, Series
from dashboards.queries import Board, Panel, boards, filled
from dashboards.units import shown

COLUMNS, POINTS = 24, 240
DAY_S = 86_400  # matplotlib counts days
LEGEND: dict[str, Any] = {"fontsize": 6, "ncols": 3, "frameon": False}
CELL_INCHES = (0.7, 0.36)  # of one column, of one unit of height


class Drawer:
    """Draws dashboards of what one Prometheus holds.

    Args:
        api: where to ask.
        start: begin of the time shown.
        end: its end.
        scrape_s: time between the scrapes.
        run: regular expression of the runs shown.
    """

    def __init__(
        self, api: Api, start: float, end: float, scrape_s: float, run: str = ".+"
    ) -> None:
        self.api, self.start, self.end = api, start, end
        self.scrape_s, self.run = scrape_s, run
        self.step_s = max(scrape_s, (end - start) / POINTS)

    def draw(self, board: Board, file: Path) -> None:
        """Write the picture of a dashboard."""
        high = max(panel.place[1] + panel.place[3] for panel in board.panels)
        size = (COLUMNS * CELL_INCHES[0], high * CELL_INCHES[1] + 0.6)
        figure = plt.figure(figsize=size, layout=None)
        figure.suptitle(board.title, x=0.01, y=1 - 0.15 / size[1], ha="left", weight="bold")
        for panel in board.panels:
            axes = figure.add_axes(_box(panel, high, size))
            self._panel(axes, panel)
        figure.savefig(file, dpi=80, metadata={"Software": None})
        plt.close(figure)

    def _panel(self, axes: Axes, panel: Panel) -> None:
        axes.set_prop_cycle(color=OKABE_ITO)
        axes.set_title(panel.title, loc="left", fontsize=8, weight="bold")
        if panel.kind != "timeseries":
            axes.set_axis_off()
        match panel.kind:
            case "timeseries":
                self._lines(axes, panel)
            case "stat":
                self._number(axes, panel)
            case "state-timeline":
                self._bands(axes, panel)
            case "table":
                self._table(axes, panel)
            case _:
                assert panel.kind == "row", panel.kind

    def _lines(self, axes: Axes, panel: Panel) -> None:
        found = [item for item in self.over_time(panel) if item[1].times]
        for name, series in found:
            times = [at / DAY_S for at in series.times]
            axes.plot(times, series.values, label=name, color=colour_of(panel, name), lw=1.2)
        if not found:
            axes.text(0.5, 0.5, "no data", ha="center", transform=axes.transAxes, color="gray")
        else:
            axes.legend(**LEGEND, loc="upper left", bbox_to_anchor=(0, 0), borderaxespad=2.6)
        distribution = panel.config["defaults"].get("custom", {}).get("scaleDistribution", {})
        if distribution.get("type") == "log" and any(max(s.values) > 0 for _, s in found):
            axes.set_yscale("log")
        axes.xaxis_date(UTC)
        axes.set_xlim(self.start / DAY_S, self.end / DAY_S)
        _scales(axes, panel)

    def _number(self, axes: Axes, panel: Panel) -> None:
        values = [series.values[-1] for _, series in self.over_time(panel) if series.values]
        text, colour = "no data", "gray"
        if values:
            text, colour = mapped(panel, values[-1]) or (
                shown(values[-1], panel.unit),
                reached(panel, values[-1]),
            )
        axes.text(0.5, 0.4, text, ha="center", va="center", fontsize=13, color=colour,
                  transform=axes.transAxes, weight="bold", wrap=True)  # fmt: skip

    def _bands(self, axes: Axes, panel: Panel) -> None:
        found = self.over_time(panel)
        for row, (name, series) in enumerate(found):
            for at, value in zip(series.times, series.values, strict=True):
                band = mapped(panel, value) or (shown(value, panel.unit), "gray")
                axes.broken_barh([(at, self.step_s)], (row + 0.1, 0.8), color=band[1])
            axes.text(self.start, row + 0.5, f" {name}", va="center", fontsize=7)
        entries = {mapped(panel, value) for _, series in found for value in series.values}
        for text, colour in sorted(filter(None, entries)):
            axes.plot([], [], color=colour, lw=6, label=text)
        if entries:
            axes.legend(**LEGEND, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
        axes.set_xlim(self.start, self.end)
        axes.set_ylim(0, max(1, len(found)))

    def _table(self, axes: Axes, panel: Panel) -> None:
        rows: dict[tuple[str, ...], dict[str, str]] = {}
        for target in panel.targets:
            for series in self.api.instant(self._filled(target.expr), self.end):
                key = tuple(series.labels.values())
                rows.setdefault(key, {})[target.legend] = self._cell(panel, target.legend, series)
        heads = [target.legend for target in panel.targets]
        cells = [[", ".join(key), *(row.get(head, "") for head in heads)]
                 for key, row in rows.items()]  # fmt: skip
        if not cells:
            axes.text(0.5, 0.5, "no data", ha="center", transform=axes.transAxes, color="gray")
            return
        table = axes.table(cells, colLabels=["", *heads], loc="upper left", cellLoc="left")
        table.auto_set_font_size(False)
        table.set_fontsize(6)
        table.auto_set_column_width(list(range(len(heads) + 1)))

    @staticmethod
    def _cell(panel: Panel, column: str, series: Series) -> str:
        value, unit = series.values[-1], panel.unit
        for override in panel.config["overrides"]:
            if override["matcher"]["options"] == column:
                parts = {item["id"]: item.get("value") for item in override["properties"]}
                unit = parts.get("unit") or unit
        band = mapped(panel, value, column)
        return band[0] if band else shown(value, unit)

    def over_time(self, panel: Panel) -> list[tuple[str, Series]]:
        """Name and values of each series of a panel."""
        return [
            (target.name(series.labels), series)
            for target in panel.targets
            for series in self.api.range(
                self._filled(target.expr), self.start, self.end, self.step_s
            )
        ]

    def _filled(self, expr: str) -> str:
        return filled(expr, run=self.run, scrape_s=self.scrape_s, step_s=self.step_s)


def _scales(axes: Axes, panel: Panel) -> None:
    """Few ticks, with units on the values and short times."""
    locator = AutoDateLocator(minticks=2, maxticks=5)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.xaxis.get_offset_text().set_fontsize(6)
    if axes.get_yscale() == "linear":
        axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(lambda value, _: shown(value, panel.unit))
    axes.tick_params(labelsize=6)
    axes.grid(alpha=0.3)


def _box(panel: Panel, high: int, size: tuple[float, float]) -> tuple[float, float, float, float]:
    """Place of the axes of a panel in the figure: left, bottom, width, height, in shares of it."""
    x, y, width, height = panel.place
    cell = CELL_INCHES[0] / size[0], CELL_INCHES[1] / size[1]
    left = 0.7 if panel.kind == "timeseries" else 0.2
    below = 2.2 if panel.kind == "timeseries" else 0.2  # ticks and legend
    bottom = (high - y - height + below) * cell[1]
    inner = max(0.1, height - below - 0.8)
    return (x + left) * cell[0], bottom, (width - left - 0.3) * cell[0], inner * cell[1]


def seen(api: Api) -> tuple[float, float]:
    """First and last time of a day in which any run showed metrics.

    Raises:
        PrometheusError: none did.
    """
    now = time.time()
    found = api.range("count(naics_world_size)", now - DAY_S, now, 15)
    times = [at for series in found for at in series.times]
    if not times:
        raise PrometheusError("no run was seen in the last day")
    return min(times), max(times)


def draw_all(api: Api, folder: Path, scrape_s: float) -> list[Path]:
    """Draw every dashboard; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    drawer = Drawer(api, *seen(api), scrape_s)
    files = []
    for board in boards():
        files.append(folder / f"{board.uid}.png")
        drawer.draw(board, files[-1])
    return files


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw what a Prometheus at a URL holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="of Prometheus, such as http://127.0.0.1:9090")
    parser.add_argument("folder", type=Path, help="for the pictures")
    parser.add_argument("--scrape-s", type=float, default=5.0, help="time between scrapes")
    chosen = parser.parse_args(arguments)
    for file in draw_all(Api(chosen.url), chosen.folder, chosen.scrape_s):
        print(file)


if __name__ == "__main__":
    main()
