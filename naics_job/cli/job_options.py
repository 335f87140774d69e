"""Options that the `job` commands share, and the cluster they lead to."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from naics_job.kube.api import Cluster
    from naics_job.kube.kinds import Kind

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the run.")]
Context = Annotated[
    str | None, typer.Option("--context", metavar="NAME", help="Context of the kubeconfig.")
]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", metavar="NAME", help="Default: that of the context."),
]
KindName = Annotated[
    str | None,
    typer.Option(
        "--kind", metavar="KIND", help="PyTorchJob, TrainJob, JobSet or Job. Default: all of them."
    ),
]
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout", metavar="SECONDS", min=0, help="Wait no longer, and end with 75; 0: no limit."
    ),
]
StartGrace = Annotated[
    float,
    typer.Option(
        "--start-grace",
        metavar="SECONDS",
        min=0,
        help="How long an image that cannot be pulled, a Secret or ConfigMap that is missing, may "
        "keep a pod from starting before waiting ends with 78.",
    ),
]
GRACE_S = 300.0


class Output(StrEnum):
    """How a command prints what it found."""

    TEXT = "text"
    JSON = "json"


OutputFormat = Annotated[Output, typer.Option("--output", "-o", help="How to print.")]


def open_cluster(context: str | None, namespace: str | None, verbose: bool) -> "Cluster":
    """Set up the log and find the cluster."""
    from naics_job.observability.logs import setup_logging

    setup_logging(verbose=verbose)

    from naics_job.kube.connect import connect

    return connect(context, namespace)


def chosen_kind(name: str | None) -> "Kind | None":
    """The kind that `--kind` names, if it is given."""
    from naics_job.kube.kinds import kind_named

    return kind_named(name) if name is not None else None


def say(text: str) -> None:
    """Tell what is going on, beside the result of a command."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def leaving_it_alone(name: Callable[[], str | None], again: str) -> Iterator[None]:
    """Ctrl-C and SIGTERM in the body end the command only: the run goes on.

    Args:
        name: the run, None before there is one.
        again: command that comes back to it, with `{}` for the name.
    """
    from naics_job.stopping import StopNow, listening

    try:
        with listening():
            yield
    except StopNow as stop:
        found = name()
        if found is not None:
            say(f"stopped waiting; the run goes on. Come back to it with: {again.format(found)}")
        raise typer.Exit(128 + stop.number) from stop
