"""The model card of an export: what the run was, how good it is, how to use it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from naics_job.model.weights import BaseWeights

SHOWN = ("cophenetic", "spearman", "ndcg@10", "map", "parent@1", "distortion")
SEARCH = ("top@1", "top@5", "mrr")


@dataclass(frozen=True)
class ModelCard:
    """What a reader of the export wants to know about the run behind it."""

    run_id: str
    experiment_name: str
    data_source: str
    data_digest: str
    curvature: float  # c > 0, as trained
    metrics: Mapping[str, Mapping[str, float]]  # all | heldout -> metric -> value
    baseline: Mapping[str, Mapping[str, float]]
    heldout_trained_before: int  # held-out codes trained by runs whose weights this one took


def card_text(card: ModelCard, settings: Mapping[str, Any], base: BaseWeights) -> str:
    """The model card in Markdown with the metadata block of the hub."""
    name = settings["model"]["base_model_name"]
    lines = [
        "---",
        "library_name: naics-job",
        "tags: [naics, hyperbolic, lorentz, embeddings]",
        "---",
        f"# NAICS 2022 Lorentz embeddings: {card.experiment_name}",
        "",
        "Embeds a description of a business, or a NAICS code by its title, description, examples",
        f"and exclusions, as a point on the hyperboloid of curvature -{card.curvature:g}.",
        "",
        f"- base encoder: `{name}` ({base.origin}), sha256 `{base.sha256}`",
        f"- data: {card.data_source}, sha256 `{card.data_digest}`",
        f"- run: `{card.run_id}`",
        "",
        "## Quality",
        "",
        *heldout_lines(card.heldout_trained_before),
        "",
        "The baseline is the cosine of the frozen base encoder's mean channel, scored by the same",
        "code.",
        "",
        *quality_table(card.metrics, card.baseline),
        "",
        *search_table(card.metrics.get("search", {}), card.baseline.get("search", {})),
        "",
        "## Use",
        "",
        "```",
        f'naics-embedder search "organic soybean farm" -k 5 experiment_name={card.experiment_name}',
        "```",
        "",
        "## Limits",
        "",
        "Trained on English texts of one edition of one classification. A distance orders codes;",
        "it is no probability that a business belongs to a code.",
    ]
    return "\n".join(lines) + "\n"


def heldout_lines(trained_before: int) -> list[str]:
    """What being held out means, and for how many codes it does not."""
    lines = [
        "No training step of this run takes a held-out code as anchor, positive or negative, mines",
        "or clusters one, or encodes its texts. Texts of other codes may name it: the examples of",
        "its parent, the exclusions of a sibling, and the description of a parent without other",
        "children, which is a copy of its own.",
    ]
    if trained_before:
        lines.append(
            f"{trained_before} of the held-out codes were trained by the runs whose weights this "
            "one started from."
        )
    return lines


def quality_table(
    metrics: Mapping[str, Mapping[str, float]], baseline: Mapping[str, Mapping[str, float]]
) -> list[str]:
    """Markdown rows: metric, all codes and held-out codes, each beside the baseline."""
    rows = ["| metric | all codes | baseline | held-out | baseline |", "|---|---|---|---|---|"]
    for name in SHOWN:
        cells = [
            f"{table.get(part, {}).get(name, float('nan')):.3f}"
            for part in ("all", "heldout")
            for table in (metrics, baseline)
        ]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return rows


def search_table(scores: Mapping[str, float], baseline: Mapping[str, float]) -> list[str]:
    """Markdown about text search, or why there is no score."""
    if not scores:
        return ["Text search was not scored: these texts have no index items to hold out."]
    rows = [
        f"Text search, {scores['num_queries']:.0f} index items that training never saw, each asked "
        "for its code",
        "among all six-digit codes:",
        "",
        "| metric | trained | baseline |",
        "|---|---|---|",
    ]
    return rows + [f"| {name} | {scores[name]:.3f} | {baseline[name]:.3f} |" for name in SEARCH]
