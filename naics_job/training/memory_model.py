"""How much memory a step that trains the encoder takes, from what autograd keeps on the CPU.

No GPU is needed: autograd keeps the same tensors for the backward pass wherever it runs, so their
bytes are counted while small steps run on the CPU. What differs on a GPU (kernels with other
working space, fragmentation) is what `training.gpu.USABLE` leaves room for.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from naics_job.config.schema import Config
from naics_job.data.contracts import CHANNELS
from naics_job.data.tokens import Ragged
from naics_job.geometry.lorentz import pairwise_distance
from naics_job.loss.objective import LossInputs, Objective
from naics_job.model.embedder import NaicsEmbedder
from naics_job.model.encoder import ChannelEncoder
from naics_job.model.grouping import MAX_BLOCK_TOKENS
from naics_job.model.noise import StepNoise
from naics_job.model.weights import BaseWeights, max_positions
from naics_job.training.step_load import StepLoad

CUDA_CONTEXT_BYTES = 500 * 2**20  # driver context, kernels, cuBLAS workspace; nearly constant
ADAM_STATES = 2  # float32 copies of every trained parameter
FLOAT_BYTES = 4
TEXTS = (2, 4)  # per channel and measured step; the difference of the two is the slope
CODES, ANCHORS = 16, 4  # of the measured loss
UNSAVED = 2.0  # the loss works on as much again as it keeps
LONGEST_TEXT = 256  # tokens of a measured text; longer ones cost the same per token
NOISE = StepNoise.of(0)  # of the measured steps; which masks does not matter
MASK_ROOM = 1  # one text a token shorter than the others: the padded path is measured


@dataclass(frozen=True)
class FixedBytes:
    """What is there whatever the batch size is."""

    weights: int
    gradients: int
    optimizer: int
    features: int  # the cached features of the frozen encoder and the memory bank
    context: int = CUDA_CONTEXT_BYTES

    @property
    def total(self) -> int:
        """All of it."""
        return sum(asdict(self).values())


@dataclass(frozen=True)
class MemoryModel:
    """Bytes of a training step, linear in its tokens, blocks, codes and anchor-code pairs."""

    fixed: FixedBytes
    token: float  # kept for backward per padded token
    block: float  # kept per block, such as weights cast to 16 bits
    code: float
    pair: float
    layer_token: float  # one layer's gradients in work, per token of one block

    def estimate(self, load: StepLoad) -> int:
        """Peak bytes of a step."""
        working = self.layer_token * min(load.tokens, MAX_BLOCK_TOKENS)
        kept = self.token * load.tokens + self.block * load.blocks + self.code * load.codes
        return int(self.fixed.total + kept + self.pair * load.batch_size * load.codes + working)


def measure_model(
    config: Config, base: BaseWeights, num_codes: int, half: bool, processes: int
) -> MemoryModel:
    """Measure small steps on the CPU.

    Args:
        config: the model, loss and token limits.
        base: weights of the base encoder.
        num_codes: codes of the taxonomy.
        half: whether training runs in 16-bit mixed precision.
        processes: with more than one, gradients are held a second time for the exchange.
    """
    plain = replace(config.model, gradient_checkpointing=False)
    encoder = ChannelEncoder(base, plain).train()
    embedder = NaicsEmbedder(config.model, config.loss, encoder.hidden_size).train()
    precision = torch.autocast("cpu", torch.bfloat16) if half else nullcontext()
    longest = min(LONGEST_TEXT, max_positions(base.folder))
    lengths = {
        channel: min(limit, longest)
        for channel, limit in asdict(config.data_loader.tokenization.max_tokens).items()
    }
    token, block = _encoder_bytes(encoder, lengths, precision)
    layers = int(encoder.transformer.config.num_hidden_layers)
    layer_token = token / layers
    if config.model.gradient_checkpointing:  # only the input of each layer is kept
        token, layer_token = float(layers * encoder.hidden_size * FLOAT_BYTES), 2 * layer_token
    code, pair = _loss_bytes(config, embedder, encoder.hidden_size)
    fixed = _fixed_bytes(config, encoder, embedder, num_codes, processes)
    return MemoryModel(fixed, token, block, code, pair, layer_token)


def saved_bytes(action: Callable[[], object], known: Iterable[Tensor]) -> int:
    """Bytes that autograd keeps for the backward pass of `action`.

    Each storage counts once and whole, as a view keeps all of it alive; those of `known` (weights,
    inputs) do not count.
    """
    seen = {tensor.untyped_storage().data_ptr() for tensor in known}
    total = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal total
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            total += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = action()  # holds the graph, so no address is given to a second tensor
    del result
    return total


def _encoder_bytes(
    encoder: ChannelEncoder, lengths: dict[str, int], precision: AbstractContextManager[object]
) -> tuple[float, float]:
    """Bytes per padded token and per block: slope and intercept of two measured steps."""
    known, found = list(encoder.parameters()), []
    for texts in TEXTS:
        tokens = {channel: _texts(texts, length) for channel, length in lengths.items()}
        with precision:
            found.append(saved_bytes(partial(encoder, tokens, NOISE), known))
    longest = sum(lengths.values())
    slope = (found[1] - found[0]) / ((TEXTS[1] - TEXTS[0]) * longest)
    blocks = len(CHANNELS)  # texts of one channel are one block
    return slope, max(0.0, (found[0] - slope * TEXTS[0] * longest) / blocks)


def _texts(count: int, length: int) -> Ragged:
    """`count` different texts of `length` tokens, the first one token shorter."""
    lengths = np.full(count, length, dtype=np.int64)
    lengths[0] -= MASK_ROOM
    ids = np.arange(int(lengths.sum()), dtype=np.int32) % 7 + 1
    ids[np.cumsum(lengths) - lengths] = np.arange(count) + 1  # no two alike
    return Ragged(ids, lengths)


def _loss_bytes(config: Config, embedder: NaicsEmbedder, hidden_size: int) -> tuple[float, float]:
    """Bytes per code of the embedder, and per anchor-code pair of the losses."""
    features = torch.randn(CODES, len(CHANNELS), hidden_size)
    present = torch.ones(CODES, len(CHANNELS), dtype=torch.bool)
    forward = partial(embedder, features, present, NOISE.of_rows(torch.arange(CODES)))
    per_code = saved_bytes(forward, embedder.parameters()) / CODES
    encoded = forward()
    points = encoded.points.detach().requires_grad_()
    radius = encoded.radius.detach()
    objective = Objective(config.loss, config.false_negatives)
    tree = torch.arange(CODES).remainder(9).repeat(ANCHORS, 1).float()
    kept = torch.ones(ANCHORS, CODES, dtype=torch.bool)

    def loss() -> dict[str, Tensor]:
        inputs = LossInputs(
            distance=pairwise_distance(points[:ANCHORS], points, config.loss.curvature),
            tree_distance=tree,
            positive=torch.full((ANCHORS,), CODES - 1),
            keep=kept,
            attract=kept,
            pair_margin=torch.ones(ANCHORS),
            anchor_radius=radius[:ANCHORS],
            radius=radius,
            depth=torch.ones(CODES, dtype=torch.long),
            importance=encoded.importance.detach(),
            load=encoded.load,
            query_distance=pairwise_distance(points[:ANCHORS], points, config.loss.curvature),
            query_truth=torch.arange(ANCHORS),
            curvature=config.loss.curvature,
        )
        terms: dict[str, Tensor] = objective(inputs)
        return terms

    per_pair = saved_bytes(loss, [points, tree, kept, radius]) / (ANCHORS * CODES)
    return UNSAVED * per_code, UNSAVED * per_pair


def _fixed_bytes(
    config: Config,
    encoder: ChannelEncoder,
    embedder: NaicsEmbedder,
    num_codes: int,
    processes: int,
) -> FixedBytes:
    parts = nn.ModuleList([encoder, embedder])
    trained = sum(p.numel() * FLOAT_BYTES for p in parts.parameters() if p.requires_grad)
    tokenization = config.data_loader.tokenization
    texts = tokenization.frozen_views * len(CHANNELS) + tokenization.query_items
    per_code = texts * encoder.hidden_size  # an upper limit: few texts have views
    per_code += config.model.embedding_dim + 1 + config.model.moe.num_experts
    return FixedBytes(
        weights=sum(p.numel() * p.element_size() for p in parts.parameters()),
        gradients=trained * (2 if processes > 1 else 1),
        optimizer=ADAM_STATES * trained,
        features=num_codes * per_code * FLOAT_BYTES,
    )
