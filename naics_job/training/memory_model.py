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
from naics_job.loss.objective import Objective
from naics_job.model.embedder import NaicsEmbedder, Sizes, TextInputs
from naics_job.model.encoder import TextEncoder
from naics_job.model.grouping import MAX_BLOCK_TOKENS
from naics_job.model.noise import StepNoise
from naics_job.model.weights import BaseWeights, max_positions
from naics_job.training.made_up_step import MadeUpStep
from naics_job.training.step_load import StepLoad, StepLoads

CUDA_CONTEXT_BYTES = 500 * 2**20  # driver context, kernels, cuBLAS workspace; nearly constant
ADAM_STATES = 2  # float32 copies of every trained parameter
FLOAT_BYTES = 4
TEXTS = (2, 4)  # of two measured steps; the difference of the two is the slope
ROWS = (16, 32)  # codes, anchors, texts and columns of the measured losses
UNSAVED = 2.0  # the loss works on as much again as it keeps
LONGEST_TEXT = 256  # tokens of a measured text; longer ones cost the same per token
NOISE = StepNoise.of(0)  # of the measured steps; which masks does not matter
NUM_LEVELS = 5  # of codes: 2 to 6 digits
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
class PairBytes:
    """What the losses keep for each pair."""

    codes: float  # of two codes of the step
    anchor: float  # of an anchor and a code of the step
    text: float  # of a text and any code
    column: float  # of any code, whatever it is compared with


@dataclass(frozen=True)
class MemoryModel:
    """Bytes of a step, linear in the tokens and blocks encoded at once, in rows and in pairs."""

    fixed: FixedBytes
    num_codes: int  # of the taxonomy: the answers that a text is compared with
    token: float  # kept for backward per padded token
    block: float  # kept per block, such as weights cast to 16 bits
    row: float  # of the embedder, per code or text of the step
    pair: PairBytes
    layer_token: float  # one layer's gradients in work, per token of one block

    def estimate(self, load: StepLoad) -> int:
        """Peak bytes of a step.

        With several micro-batches the losses are gone when the first one is encoded for its
        gradients, so this is a little too much.
        """
        working = self.layer_token * min(load.tokens, MAX_BLOCK_TOKENS)
        encoder = self.token * load.tokens + self.block * load.blocks + working
        pairs = self.pair.codes * load.codes**2 + self.pair.anchor * load.anchors * load.codes
        pairs += (self.pair.text * load.texts + self.pair.column) * self.num_codes
        rows = self.row * (load.codes + load.texts)
        return int(self.fixed.total + encoder + rows + pairs)


def measure_model(
    config: Config, base: BaseWeights, counts: StepLoads, half: bool, processes: int
) -> MemoryModel:
    """Measure small steps on the CPU.

    Args:
        config: the model, loss and token limits.
        base: weights of the base encoder.
        counts: how many codes and texts there are.
        half: whether training runs in 16-bit mixed precision.
        processes: with more than one, gradients are held a second time for the exchange.
    """
    plain = replace(config.model, gradient_checkpointing=False)
    bf16 = config.model.encoder_precision == "bfloat16"  # auto: not on every GPU
    encoder = TextEncoder(base, plain, bf16).train()
    vocabulary = encoder.transformer.config.vocab_size
    sizes = Sizes(encoder.hidden_size, vocabulary, NUM_LEVELS, counts.num_codes)
    embedder = NaicsEmbedder(config.model, config.loss, sizes).train()
    precision = torch.autocast("cpu", torch.bfloat16) if half else nullcontext()
    longest = min(LONGEST_TEXT, max_positions(base.folder))
    length = min(config.data_loader.tokenization.max_tokens.description, longest)
    token, block = _encoder_bytes(encoder, length, precision)
    layers = int(encoder.transformer.config.num_hidden_layers)
    layer_token = token / layers
    if config.model.gradient_checkpointing:  # only the input of each layer is kept
        token, layer_token = float(layers * encoder.hidden_size * FLOAT_BYTES), 2 * layer_token
    return MemoryModel(
        fixed=_fixed_bytes(encoder, embedder, counts, processes),
        num_codes=counts.num_codes,
        token=token,
        block=block,
        row=UNSAVED * row_bytes(embedder, encoder.hidden_size),
        pair=pair_bytes(config, embedder.dim),
        layer_token=layer_token,
    )


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
    encoder: TextEncoder, length: int, precision: AbstractContextManager[object]
) -> tuple[float, float]:
    """Bytes per padded token and per block: slope and intercept of two measured steps."""
    known, found = list(encoder.parameters()), []
    for count in TEXTS:
        with precision:  # equally long texts are one block
            found.append(saved_bytes(partial(encoder, _texts(count, length), NOISE), known))
    slope = (found[1] - found[0]) / ((TEXTS[1] - TEXTS[0]) * length)
    return slope, max(0.0, found[0] - slope * TEXTS[0] * length)


def _texts(count: int, length: int) -> Ragged:
    """`count` different texts of `length` tokens, the first one token shorter."""
    lengths = np.full(count, length, dtype=np.int64)
    lengths[0] -= MASK_ROOM
    ids = np.arange(int(lengths.sum()), dtype=np.int32) % 7 + 1
    ids[np.cumsum(lengths) - lengths] = np.arange(count) + 1  # no two alike
    return Ragged(ids, lengths)


def row_bytes(embedder: NaicsEmbedder, hidden_size: int) -> float:
    """Bytes that the embedder keeps per code or text."""
    count, channels = ROWS[0], len(CHANNELS)
    inputs = TextInputs(
        features=torch.randn(count, channels, hidden_size, requires_grad=True),
        present=torch.ones(count, channels, dtype=torch.bool),
        text=torch.randn(count, hidden_size, requires_grad=True),
        words=torch.rand(count, embedder.lexical.dim),
        depth=torch.arange(count) % 2,  # every second one is a text
        code=torch.arange(count) % 2 - 1,
    )
    forward = partial(embedder, inputs, NOISE.of_rows(torch.arange(count)))
    return saved_bytes(forward, embedder.parameters()) / count


def pair_bytes(config: Config, dim: int) -> PairBytes:
    """Bytes of the losses per pair: how they grow when one kind of row becomes more.

    Args:
        config: the loss terms and their weights.
        dim: of a tangent vector.
    """
    few, many = ROWS
    objective = Objective(config.loss, config.false_negatives)
    start = MadeUpStep(few, few, few, few)

    def kept(step: MadeUpStep) -> int:
        measured = partial(step.losses, objective, config.loss.curvature)
        return saved_bytes(measured, objective.parameters())

    least, added = kept(start), (many - few) * few
    anchor = (kept(replace(start, anchors=many)) - least) / added
    codes = kept(replace(start, codes=many)) - least - anchor * added
    text = (kept(replace(start, texts=many)) - least) / added
    wide = replace(start, dim=dim)
    columns = kept(replace(wide, columns=many)) - kept(wide) - text * added
    found = (codes / (many**2 - few**2), anchor, text, columns / (many - few))
    return PairBytes(*(UNSAVED * max(0.0, kind) for kind in found))


def _fixed_bytes(
    encoder: TextEncoder, embedder: NaicsEmbedder, counts: StepLoads, processes: int
) -> FixedBytes:
    parts = nn.ModuleList([encoder, embedder])
    trained = sum(p.numel() * FLOAT_BYTES for p in parts.parameters() if p.requires_grad)
    held = [*parts.parameters(), *parts.buffers()]
    point = embedder.dim + 1 + len(embedder.experts.bias)
    cached = counts.num_texts * encoder.hidden_size
    cached += counts.num_codes * (encoder.hidden_size + point)  # text directions, memory bank
    return FixedBytes(
        weights=sum(tensor.numel() * tensor.element_size() for tensor in held),
        gradients=trained * (2 if processes > 1 else 1),
        optimizer=ADAM_STATES * trained,
        features=cached * FLOAT_BYTES,
    )
