"""The report of an evaluation on labelled texts: every system beside the simple ones.

`texts.json` for programs, `texts.md` for people.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from naics_job.evaluation.text_scores import PLACE_METRICS, standard_error
from naics_job.storage.files import join, make_dir, write_bytes_atomic

JSON_FILE, MARKDOWN_FILE = "texts.json", "texts.md"
CALIBRATION = "calibration_error"

SYSTEMS = {  # in the order of the report
    "point": "the trained embedding: the code whose point is nearest to the point of the text",
    "search": "what `search` answers: the trained model as it is used",
    "search_lexical": "the trained model together with the words that text and code share",
    "frozen_mean": "the encoder before training: cosine with the mean of a code's title, "
    "description and mean index item",
    "frozen_nearest_item": "the encoder before training: cosine with the nearest single index item "
    "of a code",
    "frozen_sum": "the encoder before training: both cosines added up",
    "tfidf": "no encoder: cosine of tf-idf weighted words and pairs of words",
}


@dataclass(frozen=True)
class TextReport:
    """What was measured.

    Attributes:
        num_rows: texts that every system was asked.
        source: what the texts are, for readers: where they come from, their checksum.
        systems: name -> metric -> value, see `text_scores.score_texts`; `calibration_error` for
            systems that state probabilities.
    """

    num_rows: int
    source: str
    systems: Mapping[str, Mapping[str, float]]


def write_report(folder: str, report: TextReport) -> None:
    """Write `texts.json` and `texts.md` into `folder`, a path or URL."""
    make_dir(folder)
    write_bytes_atomic(join(folder, JSON_FILE), json_text(report).encode())
    write_bytes_atomic(join(folder, MARKDOWN_FILE), markdown(report).encode())


def json_text(report: TextReport) -> str:
    """`{"rows": ..., "systems": {system: {metric: value}}}`."""
    systems = {name: dict(report.systems[name]) for name in _ordered(report)}
    content = {"rows": report.num_rows, "systems": systems}
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def markdown(report: TextReport) -> str:
    """A table with a line for each system, and what the systems and columns are."""
    names, metrics = _ordered(report), _metrics(report)
    best = {metric: _best(report, metric) for metric in metrics}
    rows = [
        [name, *(_cell(report.systems[name].get(metric), best[metric]) for metric in metrics)]
        for name in names
    ]
    error = max(standard_error(each["top1"], report.num_rows) for each in report.systems.values())
    lines = [
        "# Finding the codes of labelled texts",
        "",
        f"{report.num_rows} texts: {report.source}.",
        "",
        f"| system | {' | '.join(metrics)} |",
        f"|---|{'---:|' * len(metrics)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        "The best of each column is bold. The standard error of top1 is sqrt(p (1 - p) / n), here",
        f"at most {error:.3f}: a difference of less than about twice that may be chance.",
        "",
        "- `top1`, `top5`, `top10`: share of texts with the true code, or one below it, among the",
        "  first 1, 5 and 10 answers; `mrr`: mean of 1 / its place.",
        "- `level_k`: share of texts whose first answer agrees with the true code in k digits, of",
        "  those whose true code has as many (`level_2`: the sector).",
    ]
    if CALIBRATION in metrics:
        lines += [
            f"- `{CALIBRATION}`: how far the stated probabilities are from the shares that are",
            "  right; lower is better.",
        ]
    lines += ["", "Systems:", ""]
    lines += [f"- `{name}`: {SYSTEMS[name]}." for name in names if name in SYSTEMS]
    return "\n".join(lines) + "\n"


def _ordered(report: TextReport) -> list[str]:
    known = [name for name in SYSTEMS if name in report.systems]
    return known + [name for name in report.systems if name not in SYSTEMS]


def _metrics(report: TextReport) -> list[str]:
    """Columns: places, levels, then what else there is."""
    found = {metric for each in report.systems.values() for metric in each}
    levels = sorted(metric for metric in found if metric.startswith("level_"))
    first = [metric for metric in PLACE_METRICS if metric in found] + levels
    return first + sorted(found.difference(first))


def _best(report: TextReport, metric: str) -> str:
    values = [each[metric] for each in report.systems.values() if metric in each]
    return _shown(min(values) if metric == CALIBRATION else max(values))


def _cell(value: float | None, best: str) -> str:
    if value is None:
        return "-"
    text = _shown(value)
    return f"**{text}**" if text == best else text


def _shown(value: float) -> str:
    return f"{value:.3f}"
