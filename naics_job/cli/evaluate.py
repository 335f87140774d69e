"""`evaluate`: how good the embeddings of a checkpoint are."""

from typing import Annotated

import typer

from naics_job.cli.failures import exit_on_error
from naics_job.cli.options import ConfigPath, Overrides, ProfileName, Verbose, read_settings


def evaluate(
    ckpt_path: Annotated[
        str,
        typer.Option(
            "--ckpt-path",
            metavar="last|PATH",
            help="last: the newest checkpoint of the experiment; else a file or URL.",
        ),
    ] = "last",
    overrides: Overrides = None,
    config: ConfigPath = None,
    profile: ProfileName = None,
    verbose: Verbose = False,
) -> None:
    """Measure how good a checkpoint is.

    On all codes and on the held-out ones: no training step takes one as anchor, positive or
    negative, mines or clusters one, or encodes its texts. Texts of other codes may name them: a
    parent's examples, a sibling's exclusions, the description a parent copies from its only child.
    """
    with exit_on_error(verbose):
        loaded = read_settings(config, profile, overrides, verbose)

        from naics_job.cli.results import result_lines
        from naics_job.training.evaluate_run import evaluate_checkpoint

        scores = evaluate_checkpoint(loaded, ckpt_path)
        print("\n".join(result_lines(scores.metrics, scores.baseline, scores.health)))
