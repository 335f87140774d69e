"""The trained model as files that run no code: safetensors, settings, tokenizer, model card."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from naics_job.config.model_schema import LossConfig, ModelConfig
from naics_job.errors import DataError
from naics_job.model.embedder import NaicsEmbedder
from naics_job.model.encoder import ChannelEncoder
from naics_job.model.weights import BaseWeights, resolve_base
from naics_job.storage.files import join, read_bytes, write_bytes_atomic

WEIGHTS, SETTINGS, CARD, TOKENIZER = (
    "model.safetensors",
    "config.json",
    "README.md",
    "tokenizer.json",
)
SHOWN = ("cophenetic", "spearman", "ndcg@10", "map", "parent@1", "distortion")


@dataclass(frozen=True)
class ModelCard:
    """What a reader of the export wants to know about the run behind it."""

    run_id: str
    experiment_name: str
    data_source: str
    data_digest: str
    metrics: Mapping[str, Mapping[str, float]]  # all | heldout -> metric -> value
    baseline: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class LoadedModel:
    """A trained model, ready to embed texts."""

    encoder: ChannelEncoder
    embedder: NaicsEmbedder
    max_tokens: dict[str, int]


def write_model(
    folder: str,
    network: nn.ModuleDict,
    base: BaseWeights,
    settings: Mapping[str, Any],
    card: ModelCard,
) -> str:
    """Write weights, settings, tokenizer and card to `folder`, a path or URL; returns it.

    Args:
        folder: where to; files of an earlier export are replaced one by one.
        network: `encoder` and `embedder`; the frozen base is named by its checksum, not copied.
        base: the base encoder's folder, origin and checksum.
        settings: plain `model`, `loss` and `max_tokens` settings that rebuild the network.
        card: what the model card tells.
    """
    tensors = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    write_bytes_atomic(join(folder, WEIGHTS), save(tensors, {"format": "pt"}))
    tokenizer = (base.folder / TOKENIZER).read_bytes()
    write_bytes_atomic(join(folder, TOKENIZER), tokenizer)
    about = {"base_sha256": base.sha256, "base_origin": base.origin, "run_id": card.run_id}
    text = json.dumps({**settings, **about}, indent=2) + "\n"
    write_bytes_atomic(join(folder, SETTINGS), text.encode())
    write_bytes_atomic(join(folder, CARD), card_text(card, settings, base).encode())
    return folder


def load_model(folder: str, cache_dir: Path) -> LoadedModel:
    """Rebuild what `write_model` wrote, on the CPU and in evaluation mode.

    Raises:
        DataError: a file is missing or damaged, or the base weights are not those of the training.
    """
    try:
        settings = json.loads(read_bytes(join(folder, SETTINGS)))
        model = _section(ModelConfig, settings["model"])
        loss = _section(LossConfig, settings["loss"])
        tensors = load(read_bytes(join(folder, WEIGHTS)))
    except (ValueError, KeyError, SafetensorError) as error:
        raise DataError(f"{folder} holds no exported model: {error}", "train again") from error
    base = resolve_base(model, cache_dir)
    if base.sha256 != settings["base_sha256"]:
        raise DataError(
            f"the base encoder {model.base_model_name} has changed since {folder} was trained",
            f"restore the weights with sha256 {settings['base_sha256']}",
        )
    encoder = ChannelEncoder(base, model)
    embedder = NaicsEmbedder(model, loss, encoder.hidden_size)
    network = nn.ModuleDict({"encoder": encoder, "embedder": embedder})
    network.load_state_dict(tensors)
    network.eval()
    return LoadedModel(encoder, embedder, settings["max_tokens"])


def _section(kind: type[Any], values: Mapping[str, Any]) -> Any:
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), dict(values)))


def card_text(card: ModelCard, settings: Mapping[str, Any], base: BaseWeights) -> str:
    """The model card in Markdown with the metadata block of the hub."""
    name, loss = settings["model"]["base_model_name"], settings["loss"]
    lines = [
        "---",
        "library_name: naics-job",
        "tags: [naics, hyperbolic, lorentz, embeddings]",
        "---",
        f"# NAICS 2022 Lorentz embeddings: {card.experiment_name}",
        "",
        "Embeds a description of a business, or a NAICS code by its title, description, examples",
        f"and exclusions, as a point on the hyperboloid of curvature -{loss['curvature']:g}.",
        "",
        f"- base encoder: `{name}` ({base.origin}), sha256 `{base.sha256}`",
        f"- data: {card.data_source}, sha256 `{card.data_digest}`",
        f"- run: `{card.run_id}`",
        "",
        "## Quality",
        "",
        "Held-out codes were never seen in training. The baseline is the cosine of the frozen base",
        "encoder's mean channel, scored by the same code.",
        "",
        *quality_table(card.metrics, card.baseline),
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
