"""Options that several commands share, and the settings they lead to."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from naics_job.config.load import LoadedConfig

ConfigPath = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="PATH",
        help="Settings file, or a folder with config.yaml; a URL too. Default: conf/config.yaml of "
        "the working folder, else the packaged one.",
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
    path: str | None, profile: str | None, overrides: Sequence[str] | None, verbose: bool
) -> "LoadedConfig":
    """Set up the log and load the settings a command was given."""
    from naics_job.config.load import load_config
    from naics_job.observability.logs import setup_logging
    from naics_job.storage.retry import be_patient

    setup_logging(verbose=verbose)
    if path is not None and "://" in path:
        with _fetched(path, profile) as (local, base_url):
            loaded = load_config(local, profile, overrides or [], base_url)
    else:
        loaded = load_config(Path(path) if path else None, profile, overrides or [])
    be_patient(loaded.config.storage.retry_minutes)
    return loaded


@contextmanager
def _fetched(url: str, profile: str | None) -> Iterator[tuple[Path, str]]:
    """A local copy of the settings at `url`, a file or a folder, and the URL of their folder."""
    from naics_job.config.load import FILE_NAME
    from naics_job.errors import ConfigError, DataError
    from naics_job.storage.files import exists, join, read_bytes

    file = url if url.endswith((".yaml", ".yml")) else join(url, FILE_NAME)
    folder = file.rpartition("/")[0]
    with TemporaryDirectory(prefix="naics-config-") as name:
        local = Path(name) / file.rpartition("/")[2]
        try:
            local.write_bytes(read_bytes(file))
            beside = join(folder, "profile", f"{profile}.yaml")
            if profile is not None and exists(beside):
                copy = Path(name) / "profile" / f"{profile}.yaml"
                copy.parent.mkdir()
                copy.write_bytes(read_bytes(beside))
        except DataError as error:
            raise ConfigError(f"--config: {error.args[0]}", error.hint) from error
        yield local, folder
