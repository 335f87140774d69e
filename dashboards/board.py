"""What all dashboards have in common: variables, annotations, links, and their JSON."""

import json
from collections.abc import Sequence
from typing import Any

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from dashboards.palette import PURPLE, SKY
from dashboards.panels import SOURCE

TAG = "naics-job"
RUN = 'namespace=~"$namespace",run=~"$run"'
RANK = f'{RUN},rank=~"$rank"'

Panels = Sequence[Builder[models.Panel]]


def of_run(metric: str, *matchers: str) -> str:
    """A selector of a metric of the chosen runs."""
    return f"{metric}{{{','.join((RUN, *matchers))}}}"


def of_rank(metric: str, *matchers: str) -> str:
    """A selector of a metric of the chosen ranks of the chosen runs."""
    return f"{metric}{{{','.join((RANK, *matchers))}}}"


def board(
    uid: str,
    title: str,
    description: str,
    rows: Sequence[tuple[str, Panels]],
    *,
    many_runs: bool = False,
) -> builders.Dashboard:
    """A dashboard of rows of panels.

    Args:
        uid: name of the file and in the address.
        title: as listed.
        description: for whom it is.
        rows: title and panels of each.
        many_runs: whether several runs may be chosen, and all are at first.
    """
    made = builders.Dashboard(title).uid(uid).description(description).tags([TAG]).readonly()
    made.timezone("browser").time("now-3h", "now").refresh("30s")
    made.tooltip(models.DashboardCursorSync.CROSSHAIR).link(_others())
    made.variables(_variables(many_runs)).annotations([_phases(), _starts()])
    for heading, panels in rows:
        made.with_row(builders.Row(heading))
        for panel in panels:
            made.with_panel(panel)
    return made


def to_json(made: builders.Dashboard) -> str:
    """The text of a dashboard, the same each time; panels are numbered by their place."""
    values: dict[str, Any] = json.loads(json.dumps(made.build(), cls=JSONEncoder))
    for number, panel in enumerate(values["panels"], start=1):
        panel["id"] = number
    for annotation in values["annotations"]["list"]:
        annotation.update(TEXTS[annotation["name"]])
    return json.dumps(values, indent=2) + "\n"


# What the data source for Prometheus adds to an annotation; the SDK has no field for it.
TEXTS: dict[str, dict[str, Any]] = {
    "Phase begins": {"titleFormat": "{{phase_name}}", "textFormat": "{{run}}", "step": "15s"},
    "Process starts": {
        "titleFormat": "start or restart",
        "textFormat": "{{run}}",
        "useValueForTime": True,
    },
}


def _variables(many_runs: bool) -> list[Builder[models.VariableModel]]:
    source = builders.DatasourceVariable("datasource").label("Data source").type("prometheus")
    namespace = _choice("namespace", "Namespace", "label_values(naics_run_info, namespace)", True)
    namespace.all_value(".*")  # a Prometheus outside a cluster gives none
    chosen = 'namespace=~"$namespace"'
    run = _choice("run", "Run", f"label_values(naics_run_info{{{chosen}}}, run)", many_runs)
    run.sort(models.VariableSort.ALPHABETICAL_DESC)  # names end in the time of the start
    query = f'label_values(naics_run_info{{{chosen},run=~"$run"}}, rank)'
    rank = _choice("rank", "Rank", query, True).sort(models.VariableSort.NUMERICAL_ASC)
    return [source, namespace, run, rank]


def _choice(name: str, label: str, query: str, many: bool) -> builders.QueryVariable:
    variable = builders.QueryVariable(name).label(label).query(query).datasource(SOURCE)
    variable.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).multi(many).include_all(many)
    if many:
        variable.all_value(".+").current(models.VariableOption(text="All", value="$__all"))
    return variable


def _phases() -> builders.AnnotationQuery:
    active = f"max by (run, phase_name) ({of_run('naics_training_phase_active')}"
    expr = f"({active}) == 1) unless ({active} offset $__interval) == 1)"
    made = builders.AnnotationQuery().name("Phase begins").datasource(SOURCE).enable(True)
    return made.icon_color(PURPLE).expr(expr)


def _starts() -> builders.AnnotationQuery:
    started = of_run("naics_process_start_time_seconds", 'rank="0"')
    made = builders.AnnotationQuery().name("Process starts").datasource(SOURCE).enable(True)
    return made.icon_color(SKY).expr(f"max by (run) ({started}) * 1000")


def _others() -> builders.DashboardLink:
    link = builders.DashboardLink("naics-job").type(models.DashboardLinkType.DASHBOARDS)
    return link.tags([TAG]).as_dropdown(True).include_vars(True).keep_time(True)
