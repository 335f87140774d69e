"""`search`: the codes that descriptions of businesses belong to."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from naics_job.cli.failures import exit_on_error
from naics_job.cli.options import ConfigPath, Overrides, ProfileName, Verbose, read_settings

if TYPE_CHECKING:
    from naics_job.config.schema import Config
    from naics_job.export.search import Found
    from naics_job.export.text_rows import Progress, RowFiles


def search(
    query: Annotated[
        str | None, typer.Argument(metavar="[QUERY]", help="What the business does.")
    ] = None,
    overrides: Overrides = None,
    num_results: Annotated[
        int, typer.Option("-k", "--num-results", min=1, help="How many codes to show.")
    ] = 5,
    level: Annotated[
        int, typer.Option("--level", min=0, max=6, help="Digits of the codes; 0: any, by distance.")
    ] = 6,
    lexical: Annotated[
        bool, typer.Option("--lexical", help="Let words that text and code share count too.")
    ] = False,
    source: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="FILE",
            help="Answer every row of a CSV, TSV, JSON lines or Parquet file instead; a URL too.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--output", metavar="FILE", help="Where the rows with their answers go."),
    ] = None,
    text_column: Annotated[
        str, typer.Option("--text-column", metavar="NAME", help="The column with the texts.")
    ] = "text",
    config: ConfigPath = None,
    profile: ProfileName = None,
    verbose: Verbose = False,
) -> None:
    """Find the codes that a text, or every text of a file, belongs to.

    Reads the export of the experiment's last run."""
    if level == 1:
        raise typer.BadParameter("codes have 2 to 6 digits", param_hint="--level")
    if source is not None and query is not None and "=" in query:
        overrides, query = [query, *(overrides or [])], None  # the first of the settings
    if (query is None) == (source is None):
        raise typer.BadParameter("give either QUERY or --input FILE")
    if (source is None) != (target is None):
        raise typer.BadParameter("--input and --output go together", param_hint="--output")
    if source is not None and level != 6:
        raise typer.BadParameter("the answers to --input have 6 digits", param_hint="--level")
    with exit_on_error(verbose):
        settings = read_settings(config, profile, overrides, verbose).config
        if query is not None:
            _answer(settings, query, num_results, level or None, lexical)
        elif source is not None and target is not None:
            from naics_job.export.text_rows import RowFiles

            _answer_file(settings, RowFiles(source, target, text_column), num_results, lexical)


def _answer(
    settings: "Config", query: str, num_results: int, level: int | None, lexical: bool
) -> None:
    from naics_job.data.query_tokens import EXAMPLE
    from naics_job.errors import DataError
    from naics_job.export.search import open_index
    from naics_job.launch.cpus import num_cpus

    if not query.strip():
        raise DataError("the query is empty", EXAMPLE)
    index = open_index(settings, lexical, num_cpus())
    print("\n".join(_lines(index.search(query, num_results, level))))


def _lines(found: "Found") -> list[str]:
    lines = [f"{'probability':>11}  {'code':<6}  title  [nearest index item]"]
    for hit in found.hits:
        reason = f"  [{hit.item}]" if hit.item is not None else ""
        lines.append(f"{hit.probability:>11.3f}  {hit.code:<6}  {hit.title}{reason}")
    return [*lines, found.sure]


def _answer_file(settings: "Config", asked: "RowFiles", num_results: int, lexical: bool) -> None:
    from naics_job.export.search import columns, open_index
    from naics_job.export.text_rows import answer_rows, check_files
    from naics_job.launch.cpus import num_cpus

    check_files(asked)
    index = open_index(settings, lexical, num_cpus())
    with _bar() as progress:
        counts = answer_rows(
            asked,
            columns(num_results),
            lambda texts: index.answers(texts, num_results),
            progress,
        )
    broken = f", {counts.broken} with an error instead" if counts.broken else ""
    print(f"{asked.target}: {counts.rows} rows{broken}")


@contextmanager
def _bar() -> "Iterator[Progress | None]":
    """A bar on a terminal, None elsewhere."""
    import sys

    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    shown = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*shown, console=Console(stderr=True)) as bars:
        task = bars.add_task("rows", total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
