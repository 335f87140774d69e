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
    texts: Annotated[
        str | None,
        typer.Option(
            "--texts",
            metavar="FILE",
            help="Ask texts whose codes are known instead: a CSV, TSV or Parquet file with the "
            "columns text and code; a URL too.",
        ),
    ] = None,
    report: Annotated[
        str | None,
        typer.Option(
            "--report", metavar="FOLDER", help="Write texts.md and texts.json of --texts here."
        ),
    ] = None,
    splits: Annotated[
        int | None,
        typer.Option(
            "--splits",
            metavar="N",
            min=2,
            help="Train N times from the start, each time with other families held out, and give "
            "means with standard errors; no checkpoint is read or written.",
        ),
    ] = None,
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
    if report is not None and texts is None:
        raise typer.BadParameter("there is a report with --texts only", param_hint="--report")
    if splits is not None and (texts is not None or ckpt_path != "last"):
        raise typer.BadParameter(
            "it trains anew, so neither --ckpt-path nor --texts goes with it", param_hint="--splits"
        )
    with exit_on_error(verbose):
        loaded = read_settings(config, profile, overrides, verbose)
        if texts is not None:
            from naics_job.evaluation.text_report import markdown, write_report
            from naics_job.training.evaluate_texts import evaluate_on_texts

            measured = evaluate_on_texts(loaded, ckpt_path, texts)
            if report is not None:
                write_report(report, measured)
            print(markdown(measured), end="")
            return

        if splits is not None:
            from naics_job.cli.results import split_lines
            from naics_job.training.repeats import score_splits

            cards = score_splits(loaded.config, splits)
            scored = [card.metrics for card in cards], [card.baseline for card in cards]
            print("\n".join(split_lines(*scored)))
            return

        from naics_job.cli.results import result_lines
        from naics_job.training.evaluate_run import evaluate_checkpoint

        scores = evaluate_checkpoint(loaded, ckpt_path)
        print("\n".join(result_lines(scores.metrics, scores.baseline, scores.health)))
