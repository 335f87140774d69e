"""Panels: one way to make each kind, with data source, unit, description and colours set."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from dashboards.palette import PHASES, coloured, rank_patterns

SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
THIRD, HALF, FULL = 8, 12, 24
HEIGHT, STAT_HEIGHT = 8, 4
RANKS = ("rank",)  # in place of names: series that end in "rank N"


@dataclass(frozen=True)
class Query:
    """A query and the name of its series; names in double braces are labels."""

    expr: str
    legend: str = ""


def lines(
    title: str, description: str, unit: str, queries: Sequence[Query], *, width: int = THIRD,
    names: Sequence[str] = (), log: bool = False,
) -> timeseries.Panel:  # fmt: skip
    """Values over time.

    Args:
        title: what is shown.
        description: what it means and what is good.
        unit: Grafana's id of the unit.
        queries: one group of lines each.
        width: of 24 columns.
        names: series that are known beforehand, or `RANKS`; they get fixed colours.
        log: whether the axis is logarithmic.
    """
    panel = timeseries.Panel().title(title).description(description).unit(unit)
    panel.datasource(SOURCE).span(width).height(HEIGHT).targets(list(_targets(queries)))
    panel.line_width(2).fill_opacity(0).show_points(common.VisibilityMode.AUTO)
    panel.color_scheme(_by_value()).legend(_legend()).tooltip(_tooltip())
    if log:
        scale = common_builders.ScaleDistributionConfig().type(common.ScaleDistribution.LOG).log(10)
        panel.scale_distribution(scale)
    paint(panel, names)
    return panel


def number(
    title: str, description: str, unit: str, query: Query, *,
    steps: Sequence[tuple[float | None, str]], width: int = 3,
    mappings: Sequence[models.ValueMapping] = (),
) -> stat.Panel:  # fmt: skip
    """The newest value in large figures, its colour by the highest of `steps` it has reached."""
    panel = stat.Panel().title(title).description(description).unit(unit).datasource(SOURCE)
    panel.span(width).height(STAT_HEIGHT).targets(list(_targets([query])))
    panel.thresholds(_thresholds(steps)).mappings(list(mappings))
    panel.color_scheme(builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    panel.graph_mode(common.BigValueGraphMode.NONE).reduce_options(_last())
    return panel


def bands(
    title: str, description: str, queries: Sequence[Query], *, width: int = FULL, height: int = 5
) -> statetimeline.Panel:
    """Phases as coloured bands over time."""
    panel = statetimeline.Panel().title(title).description(description).unit("none")
    panel.datasource(SOURCE).span(width).height(height).targets(list(_targets(queries)))
    panel.mappings([phase_names()]).merge_values(True).fill_opacity(80).line_width(0)
    panel.color_scheme(builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    panel.show_value(common.VisibilityMode.AUTO).legend(_legend()).tooltip(_tooltip())
    return panel


@dataclass(frozen=True)
class Column:
    """A column of a table: a query with one value per row, its name and unit."""

    name: str
    expr: str
    unit: str = "none"
    mappings: tuple[models.ValueMapping, ...] = ()


def rows(
    title: str, description: str, keys: Sequence[str], columns: Sequence[Column], *,
    width: int = FULL, height: int = HEIGHT,
) -> table.Panel:  # fmt: skip
    """One row for each value of the labels `keys`, one column for each query."""
    panel = table.Panel().title(title).description(description).unit("none").datasource(SOURCE)
    panel.span(width).height(height)
    letters = [chr(ord("A") + place) for place in range(len(columns))]
    for letter, column in zip(letters, columns, strict=True):
        query = prometheus.Dataquery().expr(column.expr).datasource(SOURCE).ref_id(letter)
        panel.with_target(query.instant().format(PromQueryFormat.TABLE).legend_format(column.name))
    shown = {f"Value #{letter}": c.name for letter, c in zip(letters, columns, strict=True)}
    if len(columns) == 1:
        shown = {"Value": columns[0].name}
    order = {name: place for place, name in enumerate([*keys, *shown])}
    panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    organize = {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": shown}
    panel.with_transformation(models.DataTransformerConfig(id_val="organize", options=organize))
    for column in columns:
        properties = [_property("unit", column.unit)]
        if column.mappings:
            properties.append(_property("mappings", list(column.mappings)))
        panel.override_by_name(column.name, properties)
    panel.color_scheme(builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    return panel


def phase_names() -> models.ValueMap:
    """Number of a phase -> its name and colour."""
    options = {
        str(phase): models.ValueMappingResult(text=name, color=colour, index=place)
        for place, (phase, (name, colour)) in enumerate(PHASES.items())
    }
    return models.ValueMap(options=options)


def paint(panel: timeseries.Panel, names: Sequence[str]) -> None:
    """Give series their colours by name."""
    if names is RANKS:
        for pattern, colour in rank_patterns():
            panel.override_by_regexp(pattern, [_fixed(colour)])
        return
    for name, colour in coloured(names):
        panel.override_by_name(name, [_fixed(colour)])


def _targets(queries: Sequence[Query]) -> Iterable[prometheus.Dataquery]:
    for place, query in enumerate(queries):
        target = prometheus.Dataquery().expr(query.expr).datasource(SOURCE).range()
        yield target.legend_format(query.legend).ref_id(chr(ord("A") + place))


def _property(name: str, value: Any) -> models.DynamicConfigValue:
    return models.DynamicConfigValue(id_val=name, value=value)


def _fixed(colour: str) -> models.DynamicConfigValue:
    return _property("color", {"mode": "fixed", "fixedColor": colour})


def _by_value() -> builders.FieldColor:
    scheme = builders.FieldColor().mode(models.FieldColorModeId.CONTINUOUS_YL_BL)
    return scheme.series_by(models.FieldColorSeriesByMode.LAST)


def _thresholds(steps: Sequence[tuple[float | None, str]]) -> builders.ThresholdsConfig:
    made = [models.Threshold(value=value, color=colour) for value, colour in steps]
    return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(made)


def _legend() -> common_builders.VizLegendOptions:
    legend = common_builders.VizLegendOptions().show_legend(True)
    return legend.placement(common.LegendPlacement.BOTTOM).display_mode(
        common.LegendDisplayMode.LIST
    )


def _tooltip() -> common_builders.VizTooltipOptions:
    tooltip = common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
    return tooltip.sort(common.SortOrder.DESCENDING)


def _last() -> common_builders.ReduceDataOptions:
    return common_builders.ReduceDataOptions().calcs(["lastNotNull"]).values(False)
