"""`launch`: run `train` in several processes, here or on several machines; the image's entrypoint.

Nothing here or below imports torch: the launcher stays small beside the training processes.
"""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from naics_job.cli.failures import exit_on_error
from naics_job.errors import TransientError
from naics_job.launch.termination import KUBELET_FILE, last_word

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TRANSIENT = TransientError.exit_code
COMMANDS = ("train", "train-seq")
USAGE_ERROR: Any = typer.BadParameter.__base__  # typer has no public name for it
EXAMPLE = "naics-embedder launch --nproc-per-node 2 -- train --ckpt-path auto"


def launch(
    context: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- train|train-seq ...", help="The command, with its options."),
    ] = None,
    nproc_per_node: Annotated[
        str | None,
        typer.Option(metavar="N", help="Processes on this machine: a number, auto, gpu or cpu. "
                     "Default: PET_NPROC_PER_NODE, else training.trainer.devices."),
    ] = None,
    nnodes: Annotated[
        str | None,
        typer.Option(metavar="N", help="Machines of the run, or MIN:MAX. Default: PET_NNODES, else "
                     "training.trainer.num_nodes."),
    ] = None,
    node_rank: Annotated[
        int | None,
        typer.Option(metavar="R", help="Number of this machine, from 0. Default: PET_NODE_RANK, "
                     "RANK, else from the host name."),
    ] = None,
    rdzv_endpoint: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Where the machines meet, on machine 0. Default: "
                     "PET_RDZV_ENDPOINT, else MASTER_ADDR and MASTER_PORT."),
    ] = None,
    transient_exit_code: Annotated[
        int,
        typer.Option(metavar="CODE", min=1, max=255, help="Returned in place of 75. An operator "
                     "that ends a job at any code below 128 tries again after 203."),
    ] = TRANSIENT,
    termination_log: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Gets the outcome as JSON when it exists."),
    ] = KUBELET_FILE,
    verbose: Annotated[bool, typer.Option("--verbose", help="Tracebacks of failures.")] = False,
) -> None:  # fmt: skip
    """Start the processes of a run under torchrun, watch them, and end with their exit code.

    SIGTERM lets the run save and ends with 143. Restarts that only fail are refused."""
    with _transient_as(transient_exit_code), exit_on_error(verbose):
        from naics_job.launch.signals import stop_requests

        with stop_requests() as request, last_word(termination_log) as word:
            arguments = command or []
            parameters = _parameters(context, arguments)

            import os
            import socket

            from naics_job.cli.options import read_settings
            from naics_job.launch.placement import LaunchOptions, place, without_places
            from naics_job.launch.run import Job, run_launch

            environ = dict(os.environ)
            for name in environ.keys() - without_places(environ).keys():
                del os.environ[name]  # the operator's RANK is none of this process, nor of a log
            loaded = read_settings(
                parameters["config"],
                parameters["profile"],
                parameters["overrides"],
                bool(verbose or parameters["verbose"]),
            )
            options = LaunchOptions(
                nproc_per_node=nproc_per_node,
                nnodes=nnodes,
                node_rank=node_rank,
                rdzv_endpoint=rdzv_endpoint,
            )
            placement = place(options, loaded.config, environ, socket.gethostname())
            job = Job(arguments, loaded, parameters["ckpt_path"])
            code = run_launch(job, placement, request, word)
        raise typer.Exit(code)


@contextmanager
def _transient_as(code: int) -> "Iterator[None]":
    """End with `code` where the contract says 75."""
    try:
        yield
    except typer.Exit as end:
        raise typer.Exit(code if end.exit_code == TRANSIENT else end.exit_code) from None


def _parameters(context: typer.Context, arguments: "Sequence[str]") -> "Mapping[str, Any]":
    """What the command after `--` was given, as that command itself reads it.

    Raises:
        ConfigError: it is no training command, or would refuse its options.
    """
    from naics_job.errors import ConfigError

    if not arguments or arguments[0] not in COMMANDS:
        found = f"{arguments[0]!r} is not" if arguments else "nothing is given, expected"
        raise ConfigError(f"launch: {found} {' or '.join(COMMANDS)} after --", f"write: {EXAMPLE}")
    name, *rest = arguments
    group = context.find_root().command
    assert isinstance(group, typer.core.TyperGroup)
    try:
        return group.commands[name].make_context(name, rest).params
    except USAGE_ERROR as error:
        hint = f"see: naics-embedder {name} --help"
        raise ConfigError(f"launch: {name}: {error.format_message()}", hint) from error
