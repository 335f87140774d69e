"""Write a base encoder with mean pooling as an ONNX graph, and check what was written."""

import copy
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from naics_job.errors import ConfigError, NaicsJobError
from naics_job.export.onnx_encoder import INPUTS, OUTPUT, OnnxEncoder
from naics_job.storage.files import write_bytes_atomic

OPSET = 17  # has LayerNormalization; read by every onnxruntime since 1.12
TOLERANCE = 1e-4  # of the largest feature
LENGTHS = (1, 2, 7, 30, 120, 500)  # tokens of the texts that are compared
RESERVED_POSITIONS = 2  # RoBERTa and MPNet number positions from behind the padding id
MAX_BYTES = 2**31 - 2**20  # of a protobuf message, less what is not weights


class GraphError(NaicsJobError):
    """The exported graph does not compute what the encoder does."""


class _Pooled(nn.Module):
    """Mean over the tokens of a text, with the padding the encoder itself expects."""

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer
        self.pad_id = transformer.config.pad_token_id or 0

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Features `[text, hidden]` float32 of `ids` and `mask` `[text, token]` int64."""
        real = mask > 0
        ids = torch.where(real, ids, self.pad_id)  # RoBERTa counts positions by the id
        hidden = self.transformer(input_ids=ids, attention_mask=mask).last_hidden_state
        hidden = hidden.float()  # [text, token, hidden]
        kept = torch.where(real[..., None], hidden, 0.0)
        pooled: Tensor = kept.sum(1) / real.sum(1, keepdim=True)
        return pooled


def export_encoder(transformer: nn.Module, path: Path) -> None:
    """Write `transformer` to `path` as one ONNX file: `ids` and `mask` in, `pooled` out.

    Inputs are int64 `[batch, token]`, the output is the mean over real tokens, `[batch, hidden]`
    float32. Adapters that are active are exported as they act now; the module is not changed.

    Args:
        transformer: a BERT, RoBERTa, XLM-R or MPNet model of transformers.
        path: a file that appears only when it was checked.

    Raises:
        ConfigError: the encoder is too large for one file.
        GraphError: the graph gives other features than the module.
    """
    num_bytes = sum(each.numel() * each.element_size() for each in transformer.parameters())
    if num_bytes > MAX_BYTES:
        message = f"an encoder of {num_bytes >> 20} MiB does not fit into one ONNX file of 2 GiB"
        raise ConfigError(message, "choose a smaller model.base_model_name")
    pooled = _Pooled(copy.deepcopy(transformer)).cpu().eval()
    graph = _graph(pooled)
    _check(graph, pooled)
    write_bytes_atomic(str(path), graph)


def _graph(pooled: _Pooled) -> bytes:
    """The graph of `pooled` with its weights.

    By the exporter of TorchScript: the newer one needs onnxscript too, takes four times as long,
    and onnxruntime recognises fewer of its patterns, which costs a tenth of the speed.
    """
    ids = torch.ones((2, 7), dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0  # a text with padding, so that the mask is part of the trace
    axes = {name: {0: "batch", 1: "token"} for name in INPUTS} | {OUTPUT: {0: "batch"}}
    buffer: Any = io.BytesIO()
    with torch.no_grad(), quiet():
        torch.onnx.export(
            pooled,
            (ids, mask),
            buffer,
            dynamo=False,
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            dynamic_axes=axes,
            opset_version=OPSET,
        )
    content: bytes = buffer.getvalue()
    return content


@contextmanager
def quiet() -> Iterator[None]:
    """Hide what tracing warns of: shapes taken as constants, which a check would notice."""
    with warnings.catch_warnings():
        tracer: type[Warning] = torch.jit.TracerWarning  # type: ignore[attr-defined]
        for kind in (DeprecationWarning, UserWarning, tracer):
            warnings.simplefilter("ignore", kind)
        yield


@torch.no_grad()
def _check(graph: bytes, pooled: _Pooled) -> None:
    """Compare `graph` with `pooled` on texts of many lengths, which the graph reads in blocks."""
    config: Any = pooled.transformer.config
    longest = config.max_position_embeddings - RESERVED_POSITIONS
    draw = np.random.default_rng(0)
    lists = [
        draw.integers(0, config.vocab_size, min(length, longest)).tolist() for length in LENGTHS
    ]
    texts = [torch.tensor([ids]) for ids in lists]
    expected = torch.cat([pooled(ids, torch.ones_like(ids)) for ids in texts]).numpy()
    difference = float(np.abs(OnnxEncoder(graph)(lists) - expected).max())
    allowed = TOLERANCE * float(np.abs(expected).max())
    if not difference <= allowed:
        message = f"the exported encoder differs by {difference:.2g}, more than {allowed:.2g}"
        raise GraphError(message, "report the base encoder and the version of torch")
