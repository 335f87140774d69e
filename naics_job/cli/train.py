"""`train` and `train-seq`."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from naics_job.cli.failures import exit_on_error
from naics_job.cli.options import ConfigPath, Overrides, ProfileName, Verbose, read_settings
from naics_job.stopping import Stop, StopNow, listening

if TYPE_CHECKING:
    from naics_job.config.load import LoadedConfig
    from naics_job.config.schema import Config
    from naics_job.training.record import RunRecord

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
    with exit_on_error(verbose), listening() as stop, _told_to_peers(stop):
        loaded = read_settings(config, profile, overrides, verbose)
        _hand_over(loaded, ckpt_path)

        with stop.remembered():  # a library that is half imported cannot tell the others
            from naics_job.training.run import RunOptions, run_training

        _tell(loaded.config, run_training(loaded, RunOptions(ckpt_path, skip_validation)))


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
    with exit_on_error(verbose), listening() as stop, _told_to_peers(stop):
        loaded = read_settings(config, profile, overrides, verbose)
        _hand_over(loaded, ckpt_path)

        print("train-seq is legacy: `train` runs all phases in one schedule", file=sys.stderr)

        with stop.remembered():
            from naics_job.training.run import RunOptions
            from naics_job.training.sequence import run_sequence

        _tell(loaded.config, run_sequence(loaded, RunOptions(ckpt_path, skip_validation))[-1])


def _hand_over(loaded: "LoadedConfig", ckpt_path: str | None) -> None:
    """Let the launcher run this command when it takes several processes, and end with its code."""
    from naics_job.launch.processes import is_launched, require_one_machine, wanted_processes

    if is_launched():
        return
    require_one_machine(loaded.config)
    if (count := wanted_processes(loaded.config)) == 1:
        return

    from naics_job.launch.placement import here
    from naics_job.launch.run import Job, run_launch
    from naics_job.launch.signals import stop_requests
    from naics_job.launch.termination import KUBELET_FILE, last_word

    with stop_requests() as request, last_word(KUBELET_FILE) as word:
        job = Job(sys.argv[1:], loaded, ckpt_path)
        code = run_launch(job, here(loaded.config, count), request, word)
    raise typer.Exit(code)


@contextmanager
def _told_to_peers(stop: Stop) -> Iterator[None]:
    """Tell the other processes of a signal that came before there was a run."""
    try:
        yield
    except StopNow:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from naics_job.distributed import tell_peers

            tell_peers(stop)
        raise


def _tell(config: "Config", record: "RunRecord") -> None:
    """Say on rank 0 how good the run is and where its files are."""
    from naics_job.cli.results import result_lines
    from naics_job.training.record import record_url

    if not record.metrics:  # another rank has them
        return
    print("\n".join(result_lines(record.metrics, record.baseline, record.health)))
    for name, url in {**record.exports, "run record": record_url(config)}.items():
        print(f"{name}: {url}")
