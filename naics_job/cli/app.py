"""The command `naics-embedder`. Nothing heavy is imported until a command runs."""

import sys

import typer

from naics_job.cli import data, evaluate, job, launch, search, tools, train
from naics_job.cli.failures import INTERRUPTED
from naics_job.launch.worker import reported_to_launcher

app = typer.Typer(
    name="naics-embedder",
    help="Hyperbolic embeddings of NAICS industry codes: data, training, evaluation, search.",
    rich_markup_mode=None,  # Rich takes as long to import as all the rest of --help
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("train")(train.train)
app.command("train-seq")(train.train_seq)
# the first word that is no option ends the launcher's own ones, with or without "--"
app.command("launch", context_settings={"allow_interspersed_args": False})(launch.launch)
app.command("evaluate")(evaluate.evaluate)
app.command("search")(search.search)
app.add_typer(data.app, name="data")
app.add_typer(tools.app, name="tools")
app.add_typer(job.app, name="job")


def main() -> None:
    """Run the command line; the entry point of the package."""
    with reported_to_launcher():
        try:
            app()
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(INTERRUPTED)


if __name__ == "__main__":  # how the launcher starts a training process
    main()
