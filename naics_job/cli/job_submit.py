"""`job render` and `job submit`: from a manifest or the chart to a run on the cluster."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from naics_job.cli.failures import exit_on_error
from naics_job.cli.job_follow import AGAIN, FOLLOW, limits_of, wait_and_tell, where
from naics_job.cli.job_options import (
    GRACE_S,
    Context,
    Namespace,
    Output,
    OutputFormat,
    StartGrace,
    Timeout,
    leaving_it_alone,
    open_cluster,
    say,
)
from naics_job.cli.options import Verbose

if TYPE_CHECKING:
    from naics_job.kube.edits import Edits
    from naics_job.kube.manifests import Manifests, Source

Manifest = Annotated[
    str | None,
    typer.Option(
        "--manifest", metavar="FILE|URL", help="Manifests of one run. Default: k8s/pytorchjob.yaml."
    ),
]
Chart = Annotated[
    str | None,
    typer.Option(
        "--chart",
        metavar="FOLDER",
        help="Chart to render with the helm on the PATH. Default: helm/naics-train, where both "
        "are there and --manifest is not given.",
    ),
]
Values = Annotated[
    list[str] | None,
    typer.Option("--values", metavar="FILE", help="Values of the chart; may be repeated."),
]
HelmSet = Annotated[
    list[str] | None,
    typer.Option("--helm-set", metavar="KEY=VALUE", help="One value of the chart; repeatable."),
]
Image = Annotated[
    str | None,
    typer.Option("--image", metavar="REFERENCE", help="Image to run."),
]
Tag = Annotated[str | None, typer.Option("--tag", help="Tag of the image to run.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A training setting, e.g. training.learning_rate=1e-4; may be repeated.",
    ),
]
Config = Annotated[
    str | None,
    typer.Option("--config", metavar="FILE", help="Settings file to run with; is checked first."),
]
Check = Annotated[
    bool,
    typer.Option(
        "--check/--no-check",
        help="Whether to check the settings first; the image may know others than this version.",
    ),
]
RunName = Annotated[
    str | None,
    typer.Option("--name", metavar="NAME", help="Name of the run. Default: from its content."),
]
RunId = Annotated[
    str | None,
    typer.Option(
        "--run-id", metavar="ID", help="Makes another run of the same content, e.g. a build number."
    ),
]


def render(
    manifest: Manifest = None,
    chart: Chart = None,
    values: Values = None,
    helm_set: HelmSet = None,
    image: Image = None,
    tag: Tag = None,
    settings: Set = None,
    config: Config = None,
    check: Check = True,
    name: RunName = None,
    run_id: RunId = None,
    namespace: Namespace = None,
    verbose: Verbose = False,
) -> None:
    """Print the manifests of a run as `submit` would send them; asks no cluster."""
    with exit_on_error(verbose):
        import yaml

        from naics_job.kube.edits import Edits
        from naics_job.kube.manifests import Source

        space = namespace or "default"
        source = Source(manifest, chart, values or (), helm_set or (), space)
        edits = Edits(image, tag, settings or (), config, check)
        made = _made(source, edits, name, run_id)
        print(yaml.safe_dump_all(made.documents, sort_keys=False, allow_unicode=True), end="")


def submit(
    manifest: Manifest = None,
    chart: Chart = None,
    values: Values = None,
    helm_set: HelmSet = None,
    image: Image = None,
    tag: Tag = None,
    settings: Set = None,
    config: Config = None,
    check: Check = True,
    name: RunName = None,
    run_id: RunId = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run if it was cancelled.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for its end, and end with its exit code.")
    ] = False,
    follow: Annotated[bool, FOLLOW] = False,
    timeout: Timeout = 0.0,
    start_grace: StartGrace = GRACE_S,
    output: OutputFormat = Output.TEXT,
    context: Context = None,
    namespace: Namespace = None,
    verbose: Verbose = False,
) -> None:
    """Start a run, or attach to it: the same content is the same run.

    The cluster checks everything before anything is created. --follow waits, too."""
    with exit_on_error(verbose):
        cluster = open_cluster(context, namespace, verbose)

        from naics_job.kube import submit as submitting
        from naics_job.kube.edits import Edits
        from naics_job.kube.manifests import Source

        source = Source(manifest, chart, values or (), helm_set or (), cluster.namespace)
        edits = Edits(image, tag, settings or (), config, check)
        made = _made(source, edits, name, run_id)
        run: str = made.job["metadata"]["name"]
        known: list[str] = []
        again = AGAIN + where(context, cluster)
        with leaving_it_alone(lambda: known[0] if known else None, again):
            done = submitting.submit(cluster, made, say, resume)
            known.append(run)
            uid = done.job["metadata"]["uid"]
            if output is Output.JSON:
                place = {"kind": done.kind.name, "namespace": cluster.namespace}
                print(json.dumps({"name": run, "uid": uid, "created": done.created, **place}))
            else:
                print(run, flush=True)
            if wait or follow:
                limits = limits_of(timeout, start_grace)
                wait_and_tell(cluster, done.kind, run, limits, follow)


def _made(source: "Source", edits: "Edits", name: str | None, run_id: str | None) -> "Manifests":
    """Read, change, check and name the manifests."""
    from naics_job.kube.edits import apply_edits
    from naics_job.kube.manifests import read_manifests
    from naics_job.kube.naming import name_run

    made = read_manifests(source)
    apply_edits(made, edits)
    name_run(made, name, run_id, edits.any)
    return made
