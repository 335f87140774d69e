"""`tools investigate`: where the errors of the experiment's last run come from."""

from collections.abc import Iterator

from naics_job.cli.evidence import Evidence, gather
from naics_job.cli.findings import (
    MARK,
    channel_findings,
    distance_findings,
    heldout_findings,
    level_findings,
    sector_findings,
    standing,
)
from naics_job.cli.parent_findings import parent_findings, text_findings
from naics_job.config.schema import Config
from naics_job.evaluation.breakdown import fit_distance, fit_rank
from naics_job.storage.files import join, write_bytes_atomic

REPORT = "investigation.txt"


def explain(config: Config) -> Iterator[str]:
    """Yield the report line by line, and write it below `<dirs.docs_dir>/<experiment_name>`.

    Raises:
        DataError: the experiment has no embedding.
    """
    lines = report_lines(gather(config))
    url = join(config.dirs.docs_dir, config.experiment_name, REPORT)
    write_bytes_atomic(url, ("\n".join(lines) + "\n").encode())
    yield from lines
    yield f"written to {url}"


def report_lines(evidence: Evidence) -> list[str]:
    """All findings about one embedding."""
    fit, rank_fit = fit_distance(evidence.pairs), fit_rank(evidence.pairs)
    sections = {
        "metrics": standing(evidence, fit, rank_fit),
        "distances by tree distance": distance_findings(evidence, fit, rank_fit),
        "levels": level_findings(evidence, fit, rank_fit),
        "sectors": sector_findings(evidence, fit, rank_fit),
        "channels": channel_findings(evidence),
        "held-out codes": heldout_findings(evidence, fit),
        "wrong parents": parent_findings(evidence),
        "the text alone": text_findings(evidence),
        "not known": evidence.notes,
    }
    codes = f"{len(evidence.taxonomy):,} codes, {len(evidence.pairs.a):,} pairs"
    head = f"run {evidence.run_id}: {codes}; lines with {MARK.strip()} pass a threshold"
    lines = [head]
    for title, body in sections.items():
        if body:
            lines += ["", title, *(f"  {line}".rstrip() for line in body)]
    return lines
