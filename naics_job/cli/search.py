"""`search`: the codes nearest to a description of a business."""

from typing import Annotated

import typer

from naics_job.cli.failures import exit_on_error
from naics_job.cli.options import ConfigPath, Overrides, ProfileName, Verbose, read_settings


def search(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What the business does.")],
    overrides: Overrides = None,
    num_results: Annotated[
        int, typer.Option("-k", "--num-results", min=1, help="How many codes to show.")
    ] = 5,
    level: Annotated[
        int, typer.Option("--level", min=0, max=6, help="Digits of the codes; 0: any.")
    ] = 6,
    config: ConfigPath = None,
    profile: ProfileName = None,
    verbose: Verbose = False,
) -> None:
    """Find the codes nearest to a text.

    Reads the export of the experiment's last run."""
    if level == 1:
        raise typer.BadParameter("codes have 2 to 6 digits", param_hint="--level")
    with exit_on_error(verbose):
        loaded = read_settings(config, profile, overrides, verbose)

        from naics_job.export.search import search as nearest_codes

        hits = nearest_codes(loaded.config, query, num_results, level or None)
        print(f"{'distance':>8}  {'code':<6}  title")
        for hit in hits:
            print(f"{hit.distance:>8.3f}  {hit.code:<6}  {hit.title}")
