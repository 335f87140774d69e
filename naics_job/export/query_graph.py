"""Write what places a query, gates and experts and all, as an ONNX graph, and check it."""

import copy
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from naics_job.data.contracts import CHANNELS
from naics_job.export.onnx_encoder import Array
from naics_job.export.onnx_export import OPSET, GraphError, quiet
from naics_job.export.onnx_query import INPUTS, OUTPUT, QueryHead
from naics_job.model.embedder import NO_CODE, NaicsEmbedder, TextInputs
from naics_job.model.moe import Mixture, MixtureOfExperts
from naics_job.storage.files import write_bytes_atomic

TOLERANCE = 1e-4  # of the largest value of a point
TRACED_ROWS = 3


class DenseExperts(nn.Module):
    """The same mixture with every expert on every row: no step depends on the values of the rows.

    Args:
        experts: in evaluation mode.
    """

    def __init__(self, experts: MixtureOfExperts) -> None:
        super().__init__()
        self.experts, self.top_k = experts, experts.top_k

    def forward(self, x: Tensor, counted: Tensor, noise: None = None) -> Mixture:
        """Send each row of `x` `[row, in_dim]` through all experts and keep its top-k.

        Args:
            x: the rows.
            counted: not read, as no statistics are needed.
            noise: none outside of training.
        """
        own = self.experts
        gates = own.router(x)  # [row, expert]
        chosen = (gates + own.bias).topk(self.top_k, dim=1).indices  # [row, k]
        ones = torch.ones_like(chosen, dtype=gates.dtype)
        top = gates * torch.zeros_like(gates).scatter(1, chosen, ones)
        weight = top / top.sum(1, keepdim=True) if self.top_k > 1 else top  # 0 where not chosen
        hidden = torch.einsum("ni,ehi->neh", x, own.into) + own.into_bias
        output = torch.einsum("neh,edh->ned", nn.functional.gelu(hidden), own.out) + own.out_bias
        mean = gates.mean(0)
        return Mixture((output * weight[..., None]).sum(1), gates, mean, mean)


class NoOffsets(nn.Module):
    """Stands for `CodeOffsets` in the graph: a query has no offset."""

    def forward(self, code: Tensor, noise: None = None) -> float:
        """0, whatever the row."""
        return 0.0


class _Head(nn.Module):
    def __init__(self, embedder: NaicsEmbedder) -> None:
        super().__init__()
        own: Any = copy.deepcopy(embedder).cpu().float().eval().requires_grad_(False)
        own.experts = DenseExperts(own.experts)
        own.offsets = NoOffsets()
        self.embedder = own

    def forward(self, features: Tensor, words: Tensor, long: Tensor) -> Tensor:
        points: Tensor = self.embedder(inputs_of(features, words, long)).points
        return points


def inputs_of(features: Tensor, words: Tensor, long: Tensor) -> TextInputs:
    """What the embedder reads of queries: a long one in place of a description, else of a title.

    Args:
        features: `[query, hidden]` of length 1.
        words: projected TF-IDF vectors `[query, lexical_dim]`.
        long: `[query]` bool.
    """
    shown = {"title": ~long, "description": long}
    none = torch.zeros_like(long)
    present = torch.stack([shown.get(channel, none) for channel in CHANNELS], dim=1)
    channels = features[:, None] * present[..., None]
    depth = torch.zeros_like(long, dtype=torch.int64)
    return TextInputs(channels, present, features, words, depth, depth + NO_CODE)


@torch.no_grad()
def export_query(
    embedder: NaicsEmbedder, path: Path, features: Array, words: Array, long: Array
) -> None:
    """Write the graph to `path` when it gives the points that `embedder` gives.

    Args:
        embedder: the trained one; it is not changed.
        path: a file that appears only when it was checked.
        features: of real texts, to check with, `[text, hidden]` of length 1.
        words: of the same, `[text, lexical_dim]`.
        long: `[text]` bool.

    Raises:
        GraphError: the graph gives other points.
    """
    graph = _graph(_Head(embedder), features.shape[1], words.shape[1])
    plain = copy.deepcopy(embedder).cpu().float().eval()
    given = (torch.from_numpy(part) for part in (features, words, long))
    expected = plain(inputs_of(*given)).points.numpy()
    found = QueryHead(graph)(features, words, long)
    difference = float(np.abs(found - expected).max(initial=0.0))
    allowed = TOLERANCE * float(np.abs(expected).max(initial=1.0))
    if not difference <= allowed:
        message = f"the exported head differs by {difference:.2g}, more than {allowed:.2g}"
        raise GraphError(message, "report the settings of the model and the version of torch")
    write_bytes_atomic(str(path), graph)


def _graph(head: _Head, hidden: int, lexical: int) -> bytes:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn((TRACED_ROWS, hidden), generator=generator)
    words = torch.randn((TRACED_ROWS, lexical), generator=generator)
    long = torch.tensor([True, False, True])
    buffer: Any = io.BytesIO()
    with quiet(), _known_sinh():
        torch.onnx.export(
            head,
            (features, words, long),
            buffer,
            dynamo=False,
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            dynamic_axes={name: {0: "batch"} for name in (*INPUTS, OUTPUT)},
            opset_version=OPSET,
        )
    content: bytes = buffer.getvalue()
    return content


@contextmanager
def _known_sinh() -> Iterator[None]:
    """Write sinh, which the exporter does not know, as (e^x - e^-x) / 2; its input is float64."""

    def sinh(graph: Any, x: Any) -> Any:
        both = graph.op("Sub", graph.op("Exp", x), graph.op("Exp", graph.op("Neg", x)))
        half = graph.op("Constant", value_t=torch.tensor(0.5, dtype=torch.float64))
        return graph.op("Mul", both, half)

    exporter: Any = torch.onnx  # does not list these two
    exporter.register_custom_op_symbolic("aten::sinh", sinh, OPSET)
    try:
        yield
    finally:
        exporter.unregister_custom_op_symbolic("aten::sinh", OPSET)
