"""`job status`, `wait`, `logs` and `list`: what runs on a cluster are doing, and how they end."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from naics_job.cli.failures import exit_on_error
from naics_job.cli.job_options import (
    GRACE_S,
    Context,
    KindName,
    Name,
    Namespace,
    Output,
    OutputFormat,
    StartGrace,
    Timeout,
    chosen_kind,
    leaving_it_alone,
    open_cluster,
    say,
)
from naics_job.cli.options import Verbose

if TYPE_CHECKING:
    from naics_job.kube.api import Cluster
    from naics_job.kube.kinds import Kind
    from naics_job.kube.logs import Sink
    from naics_job.kube.wait import Audience, Limits

TICK_S = 5.0
AGAIN = "naics-embedder job wait {}"
FOLLOW = typer.Option("--follow", "-f", help="Print the log of every rank meanwhile.")


def status(
    name: Name,
    kind: KindName = None,
    output: OutputFormat = Output.TEXT,
    context: Context = None,
    namespace: Namespace = None,
    verbose: Verbose = False,
) -> None:
    """Show what a run is doing: its phase, its pods by rank, what keeps them from running."""
    with exit_on_error(verbose):
        cluster = open_cluster(context, namespace, verbose)

        from naics_job.cli.job_view import as_json, as_text
        from naics_job.kube.runs import find, problems_of, state, with_progress

        found = state(cluster, *find(cluster, name, chosen_kind(kind)))
        (found,) = with_progress(cluster, [found])
        problems = list(problems_of(cluster, found))
        if output is Output.JSON:
            print(json.dumps(as_json(found, problems), indent=2))
        else:
            print(as_text(found, problems))


def logs(
    name: Name,
    rank: Annotated[
        int | None, typer.Option("--rank", metavar="N", min=0, help="Only this pod. Default: all.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run ends.")
    ] = False,
    tail: Annotated[
        int | None,
        typer.Option("--tail", metavar="N", min=0, help="Newest lines of each pod. Default: all."),
    ] = None,
    prefix: Annotated[
        bool | None,
        typer.Option(
            "--prefix/--no-prefix", help="The rank before each line. Default: on a terminal."
        ),
    ] = None,
    kind: KindName = None,
    context: Context = None,
    namespace: Namespace = None,
    verbose: Verbose = False,
) -> None:
    """Print the log of every pod of a run, or of one; each line once, through restarts.

    A rank is a pod here; its processes write to one log."""
    with exit_on_error(verbose):
        cluster = open_cluster(context, namespace, verbose)

        from naics_job.kube.logs import Follower, read_logs
        from naics_job.kube.runs import find, state
        from naics_job.kube.watch import RunWatch

        found, job = find(cluster, name, chosen_kind(kind))
        sink = print_line(prefix)
        if not follow:
            pods = [p for p in state(cluster, found, job).pods if rank in (None, p.rank)]
            read_logs(cluster, found.container, pods, sink, tail)
            return
        again = "naics-embedder job logs {} --follow" + where(context, cluster)
        with (
            leaving_it_alone(lambda: name, again),
            RunWatch(cluster, found, name) as watch,
            Follower(cluster, found.container, sink, rank, tail) as follower,
        ):
            for each in watch.states(TICK_S):
                follower.update(each.pods)
                if follower.error is not None:
                    raise follower.error
                if each.ended:
                    break


def wait(
    name: Name,
    kind: KindName = None,
    timeout: Timeout = 0.0,
    start_grace: StartGrace = GRACE_S,
    follow: Annotated[bool, FOLLOW] = False,
    context: Context = None,
    namespace: Namespace = None,
    verbose: Verbose = False,
) -> None:
    """Wait until a run is done or failed, and end with its exit code.

    0 finished; 65, 70, 74, 78, 137 failed, as the run itself ended; 75 failed but another try may
    do better, or the time is up; 78 a pod cannot start; 143 it was cancelled."""
    with exit_on_error(verbose):
        cluster = open_cluster(context, namespace, verbose)

        from naics_job.kube.runs import find

        found, _ = find(cluster, name, chosen_kind(kind))
        with leaving_it_alone(lambda: name, AGAIN + where(context, cluster)):
            wait_and_tell(cluster, found, name, limits_of(timeout, start_grace), follow)


def list_runs(
    release: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only the runs of this Helm release.")
    ] = None,
    output: OutputFormat = Output.TEXT,
    context: Context = None,
    namespace: Namespace = None,
    verbose: Verbose = False,
) -> None:
    """List the runs of a namespace, newest first."""
    with exit_on_error(verbose):
        cluster = open_cluster(context, namespace, verbose)

        from datetime import UTC, datetime

        from naics_job.cli.job_view import list_json, list_text
        from naics_job.kube.runs import all_runs, of_release, state, with_progress

        runs, problems = all_runs(cluster, of_release(release) if release else None)
        states = with_progress(cluster, [state(cluster, kind, job) for kind, job in runs])
        for problem in problems:
            say(f"not looked at: {problem}")
        if output is Output.JSON:
            print(json.dumps([list_json(each) for each in states], indent=2))
        else:
            print(list_text(states, datetime.now(UTC)) if states else "no runs")


def limits_of(timeout: float, start_grace: float) -> "Limits":
    """How long to wait; a time of 0 is no limit."""
    import math

    from naics_job.kube.wait import Limits

    timeout = timeout or math.inf
    return Limits(timeout, start_grace, min(TICK_S, timeout))


def wait_and_tell(
    cluster: "Cluster", kind: "Kind", name: str, limits: "Limits", follow: bool
) -> None:
    """Wait for the end of a run, with its log if wanted, and say that it is done."""
    from naics_job.kube.wait import wait_for

    with _audience(cluster, kind, follow) as audience:
        wait_for(cluster, kind, name, limits, audience)
    say(f"{name} is finished")


@contextmanager
def _audience(cluster: "Cluster", kind: "Kind", follow: bool) -> Iterator["Audience"]:
    from naics_job.kube.wait import Audience

    if not follow:
        yield Audience(say)
        return

    from naics_job.kube.logs import Follower

    with Follower(cluster, kind.container, print_line(prefix=None), rank=None) as follower:
        yield Audience(say, lambda state: follower.update(state.pods))


def print_line(prefix: bool | None) -> "Sink":
    """What prints a line of a log, with the rank in front where that is wanted.

    Without a wish it stands there on a terminal; elsewhere lines stay as they were written.
    """
    import sys

    shown = sys.stdout.isatty() if prefix is None else prefix

    def put(rank: int | None, line: str) -> None:
        print(f"[{'?' if rank is None else rank}] {line}" if shown else line, flush=True)

    return put


def where(context: str | None, cluster: "Cluster") -> str:
    """The options that lead to the same place again."""
    return f" --namespace {cluster.namespace}" + (f" --context {context}" if context else "")
