"""Options that several commands share, and the settings they lead to."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from naics_job.config.load import LoadedConfig

ConfigPath = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="PATH",
        help="Settings file, or a folder with config.yaml. Default: conf/config.yaml of the "
        "working folder, else the packaged one.",
    ),
]
ProfileName = Annotated[
    str | None,
    typer.Option("--profile", metavar="NAME", help="Settings of conf/profile/NAME.yaml on top."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings, e.g. data_loader.batch_size=16."),
]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="More log lines, and tracebacks of failures.")
]
Force = Annotated[bool, typer.Option("--force", help="Build again although nothing changed.")]


def read_settings(
    path: Path | None, profile: str | None, overrides: Sequence[str] | None, verbose: bool
) -> "LoadedConfig":
    """Set up the log and load the settings a command was given."""
    from naics_job.config.load import load_config
    from naics_job.observability.logs import setup_logging
    from naics_job.storage.remote import be_patient

    setup_logging(verbose=verbose)
    loaded = load_config(path, profile, overrides or [])
    be_patient(loaded.config.storage.retry_minutes)
    return loaded
