"""`data`: the four tables that training reads."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import typer

from naics_job.cli.failures import exit_on_error
from naics_job.cli.options import ConfigPath, Force, Overrides, ProfileName, Verbose, read_settings

if TYPE_CHECKING:
    from naics_job.config.schema import Config
    from naics_job.data.contracts import BuildResult

app = typer.Typer(
    help="Build the tables that training reads.", rich_markup_mode=None, no_args_is_help=True
)


def preprocess(settings: "Config", force: bool) -> Sequence["BuildResult"]:
    """Texts of every code: title, description, examples, excluded."""
    from naics_job.data.preprocess import build_preprocess

    return [build_preprocess(settings, force=force)]


def relations(settings: "Config", force: bool) -> Sequence["BuildResult"]:
    """Kind of relation of every pair of codes in one sector."""
    from naics_job.data.relations import build_relations

    return [build_relations(settings, force=force)]


def distances(settings: "Config", force: bool) -> Sequence["BuildResult"]:
    """Tree distance and exclusion flag of every pair of codes in one sector."""
    from naics_job.data.distances import build_distances

    return [build_distances(settings, force=force)]


def triplets(settings: "Config", force: bool) -> Sequence["BuildResult"]:
    """Anchors with their positives, relation, distance and margin."""
    from naics_job.data.triplets import build_triplets

    return [build_triplets(settings, force=force)]


def build_all(settings: "Config", force: bool) -> Sequence["BuildResult"]:
    """All four tables, in order."""
    from naics_job.data.prepare import prepare_all

    return prepare_all(settings, force=force)


COMMANDS: dict[str, Callable[["Config", bool], Sequence["BuildResult"]]] = {
    "preprocess": preprocess,
    "relations": relations,
    "distances": distances,
    "triplets": triplets,
    "all": build_all,
}


def _add(name: str) -> None:
    """Make the command `data NAME`; its help is the docstring of what it builds."""
    build = COMMANDS[name]

    @app.command(name, help=build.__doc__)
    def command(
        overrides: Overrides = None,
        config: ConfigPath = None,
        profile: ProfileName = None,
        force: Force = False,
        verbose: Verbose = False,
    ) -> None:
        with exit_on_error(verbose):
            settings = read_settings(config, profile, overrides, verbose).config
            for result in build(settings, force):
                done = f"built in {result.seconds:.1f} s" if result.rebuilt else "up to date"
                print(f"{result.url}: {result.rows:,} rows from {result.source}, {done}")


for _name in COMMANDS:
    _add(_name)
