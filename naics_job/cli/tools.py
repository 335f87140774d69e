"""`tools`: look at settings, at memory, at results."""

from enum import StrEnum
from typing import Annotated

import typer

from naics_job.cli.failures import exit_on_error
from naics_job.cli.options import ConfigPath, Overrides, ProfileName, Verbose, read_settings

app = typer.Typer(
    help="Look at settings, GPU memory and results.", rich_markup_mode=None, no_args_is_help=True
)


class Format(StrEnum):
    """How `tools config` prints."""

    TABLE = "table"
    YAML = "yaml"
    JSON = "json"


@app.command("config")
def show_config(
    overrides: Overrides = None,
    config: ConfigPath = None,
    profile: ProfileName = None,
    output: Annotated[
        Format,
        typer.Option("--format", help="table, or all values as yaml (reads back) or json."),
    ] = Format.TABLE,
    verbose: Verbose = False,
) -> None:
    """Show the settings in use, where each came from, and where the SADC phases lie."""
    with exit_on_error(verbose):
        from naics_job.cli.borders import planned_phases
        from naics_job.cli.show_config import FORMATS

        loaded = read_settings(config, profile, overrides, verbose)
        print(FORMATS[output.value](loaded, planned_phases(loaded.config)))


@app.command("gpu")
def gpu(
    overrides: Overrides = None,
    config: ConfigPath = None,
    profile: ProfileName = None,
    auto: Annotated[
        bool, typer.Option("--auto", help="Measure real steps at growing batch sizes.")
    ] = False,
    gpu_memory: Annotated[
        float | None,
        typer.Option("--gpu-memory", metavar="GIB", min=1, help="Estimate for a GPU of this size."),
    ] = None,
    target_effective_batch: Annotated[
        int | None,
        typer.Option(metavar="ANCHORS", min=1, help="Anchors per optimizer step to arrive at."),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write the suggestion into the settings file.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Suggest a batch size that fits."""
    with exit_on_error(verbose):
        from naics_job.config.edit import set_values
        from naics_job.config.load import file_to_edit

        loaded = read_settings(config, profile, overrides, verbose)

        from naics_job.training.gpu import advise

        advice = advise(loaded.config, auto, gpu_memory, target_effective_batch)
        print(advice.text)
        if apply:
            path = file_to_edit(config)
            set_values(path, advice.settings)
            print(f"written to {path}")
            stronger = {key: loaded.provenance.get(key) for key in advice.settings}
            for key, origin in stronger.items():
                if origin in ("profile", "override"):
                    print(f"{key} is set by the {origin} as well, which wins over the file")


@app.command("visualize")
def visualize(
    overrides: Overrides = None,
    config: ConfigPath = None,
    profile: ProfileName = None,
    verbose: Verbose = False,
) -> None:
    """Draw the experiment's last run as PNG files."""
    with exit_on_error(verbose):
        loaded = read_settings(config, profile, overrides, verbose)

        from naics_job.cli.visualize import write_plots

        for url in write_plots(loaded.config):
            print(url)


@app.command("investigate")
def investigate(
    overrides: Overrides = None,
    config: ConfigPath = None,
    profile: ProfileName = None,
    verbose: Verbose = False,
) -> None:
    """Explain weak correlations of the experiment's last run."""
    with exit_on_error(verbose):
        loaded = read_settings(config, profile, overrides, verbose)

        from naics_job.cli.investigate import explain

        for line in explain(loaded.config):
            print(line)
