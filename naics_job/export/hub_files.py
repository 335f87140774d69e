"""The encoder with its adapter merged, as transformers and sentence-transformers read it."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from naics_job.model.encoder import ADAPTER, TextEncoder
from naics_job.model.tensor_file import write_tensors
from naics_job.model.transformer import merged_tensors
from naics_job.model.weights import OPTIONAL, WEIGHTS, BaseWeights
from naics_job.storage.files import copy_into, write_bytes_atomic

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
MODULES, SENTENCES = "modules.json", "sentence_bert_config.json"
POOLING = "1_Pooling"
POOLER = "pooler."  # in names of tensors: not used here, but a reader would make up random ones
KINDS = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")  # of pooling


@torch.no_grad()
def write_encoder(folder: Path, encoder: TextEncoder, base: BaseWeights, max_tokens: int) -> None:
    """Write the files to a local folder.

    Args:
        folder: exists.
        encoder: the trained one.
        base: where its settings and tokenizer are taken from.
        max_tokens: that a text is cut to.
    """
    tensors = _pooler(base) | merged_tensors(encoder.transformer, ADAPTER)
    write_tensors(str(folder / WEIGHTS), tensors, {"format": "pt"})
    config = json.loads((base.folder / CONFIG).read_text(encoding="utf-8"))
    config |= {key: "float32" for key in ("dtype", "torch_dtype") if key in config}
    _write_json(folder / CONFIG, config)
    for name in (TOKENIZER, *OPTIONAL):
        if (base.folder / name).is_file():
            copy_into(base.folder / name, str(folder / name))
    kinds = {f"pooling_mode_{kind}": kind == "mean_tokens" for kind in KINDS}
    pooling = {"word_embedding_dimension": encoder.hidden_size, **kinds}
    _write_json(folder / POOLING / CONFIG, pooling)
    _write_json(folder / SENTENCES, {"max_seq_length": max_tokens, "do_lower_case": False})
    modules = [("", "Transformer"), (POOLING, "Pooling")]
    _write_json(
        folder / MODULES,
        [
            {
                "idx": number,
                "name": str(number),
                "path": path,
                "type": f"sentence_transformers.models.{kind}",
            }
            for number, (path, kind) in enumerate(modules)
        ],
    )


def _pooler(base: BaseWeights) -> dict[str, Tensor]:
    """The tensors of the base encoder's pooler, where it has one."""
    tensors = load_file(base.folder / WEIGHTS)
    return {
        name[name.index(POOLER) :]: value.float()
        for name, value in tensors.items()
        if POOLER in name
    }


def _write_json(path: Path, content: object) -> None:
    write_bytes_atomic(str(path), (json.dumps(content, indent=2) + "\n").encode())
