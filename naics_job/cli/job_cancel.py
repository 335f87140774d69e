"""`job cancel`: stop runs so that they save."""

from typing import Annotated

import typer

from naics_job.cli.failures import exit_on_error
from naics_job.cli.job_options import Context, KindName, Namespace, chosen_kind, open_cluster, say
from naics_job.cli.options import Verbose


def cancel(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Name of the run.")] = None,
    release: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Instead of one: the unfinished runs of a Helm release."),
    ] = None,
    selector: Annotated[
        str | None,
        typer.Option(metavar="LABELS", help="Instead of one: the unfinished runs with them."),
    ] = None,
    keep: Annotated[
        str | None, typer.Option("--except", metavar="NAME", help="With those: not this one.")
    ] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete it when it has stopped.")
    ] = False,
    kind: KindName = None,
    timeout: Annotated[
        float,
        typer.Option("--timeout", metavar="SECONDS", min=1, help="For the pods to save and end."),
    ] = 120.0,
    context: Context = None,
    namespace: Namespace = None,
    verbose: Verbose = False,
) -> None:
    """Stop a run so that it saves; it stays, suspended, and can be continued.

    Continue it with the same `job submit` and --resume."""
    if [name, release, selector].count(None) != 2:
        raise typer.BadParameter("give one of NAME, --release and --selector")
    if keep is not None and name is not None:
        raise typer.BadParameter("goes with --release or --selector", param_hint="--except")
    with exit_on_error(verbose):
        cluster = open_cluster(context, namespace, verbose)

        from naics_job.kube import cancel as stopping
        from naics_job.kube.runs import find, of_release

        if release is not None:
            selector = of_release(release)
        if selector is not None:
            stopped = stopping.cancel_all(cluster, selector, keep, timeout, say)
        else:
            found, job = find(cluster, str(name), chosen_kind(kind))
            stopping.cancel(cluster, found, job, timeout, say)
            stopped = [(found, str(name))]
        for each, run in stopped:
            if delete:
                stopping.delete(cluster, each, run, say)
            print(run)
