"""One frozen base encoder with a LoRA adapter: token lists in, text features out."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from naics_job.config.data_schema import ChannelTokens
from naics_job.config.model_schema import ModelConfig
from naics_job.data.contracts import CHANNELS
from naics_job.data.tokens import Ragged
from naics_job.errors import ConfigError
from naics_job.model.grouping import (
    BLOCK_COST_BF16,
    BLOCK_COST_TOKENS,
    distinct_texts,
    length_blocks,
    padded_ids,
    text_keys,
)
from naics_job.model.noise import RowNoise, StepNoise
from naics_job.model.transformer import (
    TextNoise,
    activate,
    adapted_layers,
    adapter_parameters,
    add_adapter,
    load_transformer,
)
from naics_job.model.weights import BaseWeights, max_positions
from naics_job.taxonomy.tree import BoolArray, IntArray

ADAPTER = "text"
Progress = Callable[[int, int], None]  # tokens done, tokens in all


def check_max_tokens(max_tokens: ChannelTokens, limit: int) -> None:
    """Refuse a channel length that the base encoder has no positions for.

    Raises:
        ConfigError: names the setting.
    """
    for channel in CHANNELS:
        value = getattr(max_tokens, channel)
        if value > limit:
            key = f"data_loader.tokenization.max_tokens.{channel}"
            message = f"{key}={value} is more than the base encoder takes: at most {limit}"
            raise ConfigError(message, f"set {key} to {limit} or less")


class TextEncoder(nn.Module):
    """One LoRA adapter (Hu et al. 2021, arXiv:2106.09685) on a frozen encoder.

    All channels and all queries share it: a text means the same wherever it stands, so a text is
    encoded once, and the trained encoder can be exported as one. Only the adapter is in
    `state_dict()`: the base is named by its checksum, not saved again. Each distinct text of a call
    is encoded once, in blocks of similar length; empty ones never.
    """

    transformer: Any  # PreTrainedModel
    shares: tuple[float, ...]  # of the trained adapter, to choose among when training has ended

    def __init__(self, weights: BaseWeights, config: ModelConfig, bf16: bool = False) -> None:
        super().__init__()
        self.base_sha256, self.bf16 = weights.sha256, bf16
        self.transformer = load_transformer(weights.folder)
        self.max_length = max_positions(weights.folder)  # tokens
        self.hidden_size = int(self.transformer.config.hidden_size)
        self.pad_id = int(self.transformer.config.pad_token_id or 0)
        self.shares = config.lora.interpolation
        self._noise = TextNoise()
        add_adapter(self.transformer, ADAPTER, config.lora, self._noise)
        self._layers = adapted_layers(self.transformer)
        self._active: tuple[str, ...] = ()
        self._activate((ADAPTER,))
        if config.gradient_checkpointing:
            settings = {"use_reentrant": False, "context_fn": self._recompute_contexts}
            self.transformer.activation_checkpointing_enable(settings)
            self.transformer.disable_input_require_grads()  # only the reentrant kind needs them
        self.register_state_dict_post_hook(_keep_adapters)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_forgive_base)  # type: ignore[no-untyped-call]
        self.train_adapters(True)

    def forward(
        self,
        tokens: Ragged,
        noise: StepNoise | None = None,
        parts: int = 1,
        progress: Progress | None = None,
    ) -> Tensor:
        """Mean-pooled features `[text, hidden]` float32; 0 for an empty text.

        Args:
            tokens: of the texts.
            noise: of the step; dropout in training reads it. Equal texts have the same masks.
            parts: pieces that the texts are encoded in. With more than one, each piece is encoded
                again for its gradients (GradCache, Gao et al. 2021, arXiv:2101.06983), so a step
                holds the activations of one piece, and its result is that of one piece.
            progress: called after each block with the tokens done and the tokens in all.

        Raises:
            ConfigError: a text is longer than the base encoder takes.
        """
        self._check_lengths(tokens)
        texts = distinct_texts(tokens)
        rows = np.array_split(texts.rows, max(1, min(parts, len(texts.rows))))
        encode = partial(self._encode, tokens, noise=noise, progress=progress)
        if len(rows) > 1 and torch.is_grad_enabled():
            pooled = [
                checkpoint(encode, part, use_reentrant=False, preserve_rng_state=False)
                for part in rows
            ]
        else:
            pooled = [encode(part) for part in rows]
        empty = self._device_zeros(1)
        if torch.is_grad_enabled() and not len(texts.rows):
            empty = empty + self.adapter_zero()
        at = torch.from_numpy(texts.index).to(empty.device)
        every = torch.cat([*pooled, empty])
        return every[at % len(every)]

    @contextmanager
    def without_adapters(self) -> Iterator[None]:
        """Encode as the frozen encoder does."""
        with self._adapters(()):
            yield

    def train_adapters(self, on: bool) -> None:
        """Let the adapter collect gradients, or freeze it."""
        for _, parameter in self.lora_parameters():
            parameter.requires_grad_(on)

    def lora_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Named parameters of the adapter; the base has none that train."""
        return adapter_parameters(self.transformer)

    def adapter_zero(self) -> Tensor:
        """A scalar 0 that depends on the whole adapter.

        Added to the loss of a step that uses cached features, it gives the adapter a gradient of
        0, which data parallel training waits for.
        """
        return 0.0 * torch.stack([value.sum() for _, value in self.lora_parameters()]).sum()

    def _encode(
        self,
        tokens: Ragged,
        rows: IntArray,
        noise: StepNoise | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Mean-pooled features `[len(rows), hidden]` of the texts `rows`, adapters as they are."""
        lengths = np.asarray(tokens.lengths)[rows]
        blocks = length_blocks(lengths, BLOCK_COST_BF16 if self.bf16 else BLOCK_COST_TOKENS)
        pooled, done = [], 0
        for block in blocks:
            with self._masked_by(self._noise_of(tokens, rows[block], noise)):
                pooled.append(self._encode_block(*padded_ids(tokens, rows[block], self.pad_id)))
            done += int(lengths[block].sum())
            if progress is not None:
                progress(done, int(lengths.sum()))
        if not pooled:
            return self._device_zeros(0)
        back = np.argsort(np.concatenate(blocks))  # place of each text among the encoded ones
        return torch.cat(pooled)[torch.from_numpy(back).to(pooled[0].device)]

    def _encode_block(self, ids: IntArray, mask: BoolArray) -> Tensor:
        """Masked mean `[text, hidden]` over the tokens of one padded block `[text, token]`."""
        device = self._device_zeros(0).device
        batch, real = torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)
        with torch.autocast(device.type, torch.bfloat16) if self.bf16 else nullcontext():
            if mask.all():  # attention without a mask takes a faster kernel
                hidden: Tensor = self.transformer(input_ids=batch).last_hidden_state
                return hidden.float().mean(dim=1)  # [text, token, hidden] -> [text, hidden]
            hidden = self.transformer(input_ids=batch, attention_mask=real.long()).last_hidden_state
        weight = real[..., None].float() / real.sum(1)[:, None, None]  # [text, token, 1]
        return (hidden.float() * weight).sum(dim=1)

    def _check_lengths(self, tokens: Ragged) -> None:
        longest = int(tokens.lengths.max(initial=0))
        if longest > self.max_length:
            message = f"a text of {longest} tokens is longer than the base encoder takes"
            key = "data_loader.tokenization.max_tokens"
            raise ConfigError(message, f"set {key}.* to {self.max_length} or less")

    def _device_zeros(self, rows: int) -> Tensor:
        weight: Tensor = next(self.transformer.parameters())
        return weight.new_zeros((rows, self.hidden_size))

    def _activate(self, names: tuple[str, ...]) -> None:
        activate(self._layers, names)
        self._active = names

    @contextmanager
    def _adapters(self, names: tuple[str, ...]) -> Iterator[None]:
        previous = self._active
        self._activate(names)
        try:
            yield
        finally:
            self._activate(previous)

    def _noise_of(self, tokens: Ragged, rows: IntArray, noise: StepNoise | None) -> RowNoise | None:
        """The noise of the texts `rows`, None where nothing reads it."""
        if noise is None or not self.training:
            return None
        keys = torch.from_numpy(text_keys(tokens, rows))
        return noise.of_rows(keys.to(self._device_zeros(0).device))

    @contextmanager
    def _masked_by(self, noise: RowNoise | None) -> Iterator[None]:
        previous, self._noise.current = self._noise.current, noise
        try:
            yield
        finally:
            self._noise.current = previous

    @contextmanager
    def _as_now(self, names: tuple[str, ...], noise: RowNoise | None) -> Iterator[None]:
        with self._adapters(names), self._masked_by(noise):
            yield

    def _recompute_contexts(
        self,
    ) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Contexts of a checkpointed layer's forward and of its recomputation in backward.

        By then other texts and another adapter are in work; without the second context the
        recomputation would run with those and give wrong gradients without a word.
        """
        return nullcontext(), self._as_now(self._active, self._noise.current)


def _keep_adapters(module: nn.Module, state: dict[str, Tensor], prefix: str, _: object) -> None:
    for name in [name for name in state if name.startswith(prefix) and ".lora_" not in name]:
        del state[name]


def _forgive_base(module: nn.Module, incompatible: object) -> None:
    missing: list[str] = incompatible.missing_keys  # type: ignore[attr-defined]
    missing[:] = [name for name in missing if ".transformer." not in f".{name}" or ".lora_" in name]
