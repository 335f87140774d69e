"""`job check`: what `helm test` runs beside a run."""

from typing import Annotated

import typer

from naics_job.cli.failures import exit_on_error
from naics_job.cli.options import ConfigPath, Overrides, ProfileName, Verbose, read_settings


def check(
    overrides: Overrides = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metrics", metavar="URL", help="Metrics of one process; repeat for each."),
    ] = None,
    ranks: Annotated[
        int | None,
        typer.Option("--ranks", metavar="N", min=1, help="Processes that should have joined."),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option("--timeout", metavar="SECONDS", min=0, help="For the processes to join."),
    ] = 240.0,
    config: ConfigPath = None,
    profile: ProfileName = None,
    verbose: Verbose = False,
) -> None:
    """Check that checkpoints can be stored, and that all processes of a run have joined.

    Writes, reads and deletes an object below dirs.checkpoint_dir; scrapes --metrics."""
    if (ranks is None) != (not metrics):
        raise typer.BadParameter("--metrics and --ranks go together")
    with exit_on_error(verbose):
        loaded = read_settings(config, profile, overrides, verbose)

        from naics_job.checkpoint.catalogue import checkpoint_root
        from naics_job.kube.check import check_ranks, check_store

        print(f"store: {check_store(checkpoint_root(loaded.config))}")
        if metrics and ranks is not None:
            print(f"metrics: {check_ranks(metrics, ranks, timeout)}")
