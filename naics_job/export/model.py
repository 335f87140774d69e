"""The trained model as files that run no code: safetensors, settings, tokenizer, model card."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError
from safetensors.numpy import load_file

from naics_job.config.model_schema import LossConfig, ModelConfig
from naics_job.data.query_tokens import QueryTokenizer
from naics_job.data.tokens import parse_tokenizer
from naics_job.errors import DataError
from naics_job.export.card import ModelCard, card_text
from naics_job.export.embeddings import EXPORT_AGAIN
from naics_job.model.light import Array, EncoderShape, LightEncoder
from naics_job.model.light_embedder import LightEmbedder
from naics_job.storage.files import (
    fetch,
    join,
    read_bytes,
    sha256_of,
    write_bytes_atomic,
)

if TYPE_CHECKING:  # a query must not import what this one imports
    from naics_job.model.embedder import NaicsEmbedder
    from naics_job.model.encoder import ChannelEncoder
    from naics_job.model.weights import BaseWeights

WEIGHTS, SETTINGS, CARD, TOKENIZER = (
    "model.safetensors",
    "config.json",
    "README.md",
    "tokenizer.json",
)
ENCODER, EMBEDDER = "encoder.", "embedder."  # in front of the names of tensors


@dataclass(frozen=True)
class LoadedModel:
    """A trained model, ready to embed texts without torch."""

    encoder: LightEncoder
    embedder: LightEmbedder
    tokenizer: QueryTokenizer

    def embed(self, texts: Sequence[str]) -> Array:
        """Points `[text, dim + 1]` float32 of free texts.

        Raises:
            DataError: a text has no word.
        """
        return self.embedder(*self.encoder(self.tokenizer.asked(texts)))


def write_model(  # what an export is made of
    folder: str,
    encoder: "ChannelEncoder",
    embedder: "NaicsEmbedder",
    base: "BaseWeights",
    settings: Mapping[str, Any],
    card: ModelCard,
) -> str:
    """Write weights, settings, tokenizer and card to `folder`, a path or URL; returns it.

    The weights hold the base encoder too, with the adapters of every channel merged into it, so an
    export needs nothing else to embed a text.

    Args:
        folder: where to; files of an earlier export are replaced one by one.
        encoder: the trained encoder.
        embedder: the trained embedder.
        base: the base encoder's folder, origin and checksum.
        settings: plain `model`, `loss` and `max_tokens` settings that rebuild the network.
        card: what the model card tells.
    """
    from naics_job.model.tensor_file import write_tensors

    tensors = {f"{ENCODER}{name}": value for name, value in encoder.merged().items()}
    tensors |= {f"{EMBEDDER}{name}": value for name, value in embedder.state_dict().items()}
    about = {"base_sha256": base.sha256, "base_origin": base.origin, "run_id": card.run_id}
    about["weights_sha256"] = write_tensors(join(folder, WEIGHTS), tensors, {"format": "pt"})
    tokenizer = (base.folder / TOKENIZER).read_bytes()
    write_bytes_atomic(join(folder, TOKENIZER), tokenizer)
    content = {**settings, "encoder": asdict(encoder.shape), **about}
    write_bytes_atomic(join(folder, SETTINGS), (json.dumps(content, indent=2) + "\n").encode())
    write_bytes_atomic(join(folder, CARD), card_text(card, settings, base).encode())
    return folder


def load_model(folder: str, cache_dir: Path) -> LoadedModel:
    """Rebuild what `write_model` wrote.

    Args:
        folder: path or URL.
        cache_dir: where the weights of a remote export are kept.

    Raises:
        DataError: a file is missing or damaged, or the files do not belong together.
    """
    try:
        settings = json.loads(read_bytes(join(folder, SETTINGS)))
        model = _section(ModelConfig, settings["model"])
        loss = _section(LossConfig, settings["loss"])
        shape = EncoderShape(**settings["encoder"])
        max_tokens = {str(name): int(value) for name, value in settings["max_tokens"].items()}
        weights = fetch(join(folder, WEIGHTS), cache_dir)
        if sha256_of(weights) != settings["weights_sha256"]:
            raise ValueError(f"the sha256 of {WEIGHTS} is not the one in {SETTINGS}")
        tensors = load_file(weights)
    except (
        *(ValueError, KeyError, TypeError, AttributeError),
        *(SafetensorError, OmegaConfBaseException),
    ) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        text = f"{folder} holds no exported model that can be used: {reason}"
        raise DataError(text, EXPORT_AGAIN) from error
    tokenizer = join(folder, TOKENIZER)
    parsed = parse_tokenizer(read_bytes(tokenizer), tokenizer, EXPORT_AGAIN)
    encoder = LightEncoder(_named(tensors, ENCODER), shape)
    try:
        embedder = LightEmbedder(_named(tensors, EMBEDDER), model, loss, encoder.hidden_size)
    except ValueError as error:
        text = f"the weights in {folder} do not fit the settings beside them"
        raise DataError(text, EXPORT_AGAIN) from error
    return LoadedModel(encoder, embedder, QueryTokenizer(parsed, max_tokens))


def _named(tensors: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _section(kind: type[Any], values: Mapping[str, Any]) -> Any:
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), dict(values)))
