"""`train` and `train-seq`."""

from typing import Annotated

import typer

from naics_job.cli.failures import exit_on_error
from naics_job.cli.options import ConfigPath, Overrides, ProfileName, Verbose, read_settings

CheckpointPath = Annotated[
    str | None,
    typer.Option(
        "--ckpt-path",
        metavar="last|auto|PATH",
        help="last: resume the newest checkpoint of the experiment. auto: the same, or start "
        "fresh when there is none. A file or URL: start a new run from its weights. "
        "Left out: start fresh.",
    ),
]
SkipValidation = Annotated[
    bool,
    typer.Option(
        "--skip-validation", help="Skip the checks of files, token store, curriculum and disk."
    ),
]


def train(
    overrides: Overrides = None,
    config: ConfigPath = None,
    profile: ProfileName = None,
    ckpt_path: CheckpointPath = None,
    skip_validation: SkipValidation = False,
    verbose: Verbose = False,
) -> None:
    """Train, evaluate and export the embeddings.

    Runs through all SADC phases; prepares data that is missing; writes checkpoints, logs,
    embeddings.parquet and a run record."""
    with exit_on_error(verbose):
        loaded = read_settings(config, profile, overrides, verbose)

        from naics_job.training.run import run_training

        raise typer.Exit(run_training(loaded, ckpt_path, skip_validation))


def train_seq(
    overrides: Overrides = None,
    config: ConfigPath = None,
    profile: ProfileName = None,
    ckpt_path: CheckpointPath = None,
    skip_validation: SkipValidation = False,
    verbose: Verbose = False,
) -> None:
    """Legacy: train in separate stages.

    Each stage starts from the last one's weights. Modern runs use `train`."""
    with exit_on_error(verbose):
        loaded = read_settings(config, profile, overrides, verbose)

        from naics_job.training.sequence import run_sequence

        raise typer.Exit(run_sequence(loaded, ckpt_path, skip_validation))
