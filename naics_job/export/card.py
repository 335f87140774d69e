"""The model card of an export: what the run was, how good it is, how to use it."""

from collections.abc import Mapping
from dataclasses import dataclass

from naics_job.model.weights import BaseWeights

SHOWN = ("cophenetic", "spearman", "ndcg@10", "map", "parent@1", "distortion")
SEARCH = ("top@1", "top@5", "mrr")
INTENDED = (
    "## Intended use",
    "",
    "Proposing six-digit codes, or the level that is sure, for short texts and descriptions in",
    "English, to be looked over by people or counted in bulk. It is no ruling on the code of a",
    "business, which depends on what it earns most with.",
)
LIMITS = (
    "## Limits",
    "",
    "Trained on English texts of one edition of one classification. A distance orders codes;",
    "probabilities were fitted on index items of families that did not train, and are less",
    "reliable for texts of another kind: measure with `naics-embedder evaluate --texts FILE`.",
)


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


def card_text(card: ModelCard, base_name: str, base: BaseWeights) -> str:
    """The model card in Markdown with the metadata block of the hub."""
    lines = [
        "---",
        "library_name: naics-job",
        "tags: [naics, hyperbolic, lorentz, embeddings]",
        "---",
        f"# NAICS 2022 Lorentz embeddings: {card.experiment_name}",
        "",
        "Places a description of a business, or a NAICS code by its title, description and index",
        f"items, as a point on the hyperboloid of curvature -{card.curvature:g}.",
        "",
        f"- base encoder: `{base_name}` ({base.origin}), sha256 `{base.sha256}`",
        f"- data: {card.data_source}, sha256 `{card.data_digest}`",
        f"- run: `{card.run_id}`",
        "",
        *INTENDED,
        "",
        "## Quality",
        "",
        *heldout_lines(card.heldout_trained_before),
        "",
        "The baseline is the cosine of the frozen base encoder's mean of title, description and",
        "index items, scored by the same code.",
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
        "- `embeddings.parquet`: a point for every code; `items.parquet`: for every index item,",
        "- `model/`: the encoder with its adapter merged, as transformers and",
        "  sentence-transformers read it (mean of the tokens); `encoder.onnx` is the same,",
        "  `query.onnx` places what it says, `naics.json` says how.",
        "",
        *LIMITS,
        "",
        "## Licence of the texts",
        "",
        _licence(card.data_source),
    ]
    return "\n".join(lines) + "\n"


def _licence(source: str) -> str:
    owner = "titles, descriptions and index items are works of the US Government, in the public"
    if source == "census":
        return f"The {owner} domain (17 U.S.C. 105)."
    return f"The texts come from: {source}. Titles are works of the US Government, public domain."


def heldout_lines(trained_before: int) -> list[str]:
    """What being held out means, and for how many codes it does not."""
    lines = [
        "Held-out are the codes of the test families; choices were made on others.",
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
    rows = ["| metric | all codes | baseline | test families | baseline |", "|---|---|---|---|---|"]
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
