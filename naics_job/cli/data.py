"""`data`: the four tables that training reads."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from naics_job.cli.failures import exit_on_error
from naics_job.cli.options import ConfigPath, Force, Overrides, ProfileName, Verbose, read_settings

if TYPE_CHECKING:
    from naics_job.data.contracts import BuildResult

app = typer.Typer(
    help="Build the tables that training reads.", rich_markup_mode=None, no_args_is_help=True
)


@app.command("preprocess")
def preprocess(
    overrides: Overrides = None,
    config: ConfigPath = None,
    profile: ProfileName = None,
    force: Force = False,
    verbose: Verbose = False,
) -> None:
    """Texts of every code: title, description, examples, excluded."""
    with exit_on_error(verbose):
        settings = read_settings(config, profile, overrides, verbose).config
        from naics_job.data.preprocess import build_preprocess

        _tell([build_preprocess(settings, force=force)])


@app.command("relations")
def relations(
    overrides: Overrides = None,
    config: ConfigPath = None,
    profile: ProfileName = None,
    force: Force = False,
    verbose: Verbose = False,
) -> None:
    """Kind of relation of every pair of codes in one sector."""
    with exit_on_error(verbose):
        settings = read_settings(config, profile, overrides, verbose).config
        from naics_job.data.relations import build_relations

        _tell([build_relations(settings, force=force)])


@app.command("distances")
def distances(
    overrides: Overrides = None,
    config: ConfigPath = None,
    profile: ProfileName = None,
    force: Force = False,
    verbose: Verbose = False,
) -> None:
    """Tree distance and exclusion flag of every pair of codes in one sector."""
    with exit_on_error(verbose):
        settings = read_settings(config, profile, overrides, verbose).config
        from naics_job.data.distances import build_distances

        _tell([build_distances(settings, force=force)])


@app.command("triplets")
def triplets(
    overrides: Overrides = None,
    config: ConfigPath = None,
    profile: ProfileName = None,
    force: Force = False,
    verbose: Verbose = False,
) -> None:
    """Anchors with their positives, relation, distance and margin."""
    with exit_on_error(verbose):
        settings = read_settings(config, profile, overrides, verbose).config
        from naics_job.data.triplets import build_triplets

        _tell([build_triplets(settings, force=force)])


@app.command("all")
def build_all(
    overrides: Overrides = None,
    config: ConfigPath = None,
    profile: ProfileName = None,
    force: Force = False,
    verbose: Verbose = False,
) -> None:
    """All four tables, in order."""
    with exit_on_error(verbose):
        settings = read_settings(config, profile, overrides, verbose).config
        from naics_job.data.prepare import prepare_all

        _tell(prepare_all(settings, force=force))


def _tell(results: Sequence["BuildResult"]) -> None:
    for result in results:
        done = f"built in {result.seconds:.1f} s" if result.rebuilt else "up to date"
        print(f"{result.url}: {result.rows:,} rows from {result.source}, {done}")
