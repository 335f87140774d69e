"""One frozen base encoder, one LoRA adapter per channel: token lists in, channel features out."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from naics_job.config.data_schema import ChannelTokens
from naics_job.config.model_schema import ModelConfig
from naics_job.data.contracts import CHANNELS
from naics_job.data.tokens import Ragged
from naics_job.errors import ConfigError
from naics_job.model.grouping import (
    concatenated,
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
    add_adapters,
    encoder_shape,
    load_transformer,
    merged_tensors,
)
from naics_job.model.weights import BaseWeights, max_positions
from naics_job.taxonomy.tree import BoolArray, IntArray

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


class ChannelEncoder(nn.Module):
    """Four LoRA adapters (Hu et al. 2021, arXiv:2106.09685) on one copy of a frozen encoder.

    Only the adapters are in `state_dict()`: the base is named by its checksum, not saved again.
    Each distinct text of a call is encoded once, in blocks of similar length; empty ones never.
    """

    transformer: Any  # PreTrainedModel

    def __init__(self, weights: BaseWeights, config: ModelConfig) -> None:
        super().__init__()
        self.base_sha256 = weights.sha256
        self.transformer = load_transformer(weights.folder)
        self.max_length = max_positions(weights.folder)  # tokens
        self.hidden_size = int(self.transformer.config.hidden_size)
        self.pad_id = int(self.transformer.config.pad_token_id or 0)
        self.shape = encoder_shape(self.transformer)
        self._noise = TextNoise()
        add_adapters(self.transformer, CHANNELS, config.lora, self._noise)
        self._layers = adapted_layers(self.transformer)
        self._active: tuple[str, ...] = ()
        self._activate(())
        if config.gradient_checkpointing:
            settings = {"use_reentrant": False, "context_fn": self._recompute_contexts}
            self.transformer.activation_checkpointing_enable(settings)
            self.transformer.disable_input_require_grads()  # only the reentrant kind needs them
        self.register_state_dict_post_hook(_keep_adapters)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_forgive_base)  # type: ignore[no-untyped-call]
        self.train_adapters(True)

    def forward(
        self, tokens: Mapping[str, Ragged], noise: StepNoise | None = None
    ) -> tuple[Tensor, Tensor]:
        """Features `[code, channel, hidden]` float32 with the adapters, present `[code, channel]`.

        Args:
            tokens: per channel the token lists of the same codes; a channel may be left out.
                Features of an empty list are 0 and `present` is False there.
            noise: of the step; dropout in training reads it. Equal texts have the same masks.

        Raises:
            ConfigError: a list is longer than the base encoder takes.
        """
        self._check_lengths(tokens)
        pooled: list[Tensor] = []
        index = np.full((_num_rows(tokens), len(CHANNELS)), -1, dtype=np.int64)
        offset = 0
        unused: list[nn.Parameter] = []
        for column, channel in enumerate(CHANNELS):
            texts = distinct_texts(tokens[channel]) if channel in tokens else None
            if texts is None or len(texts.rows) == 0:
                unused += [value for _, value in adapter_parameters(self.transformer, channel)]
                continue
            with self._adapters((channel,)):
                pooled.append(self._encode(tokens[channel], texts.rows, noise))
            index[:, column] = np.where(texts.index < 0, -1, texts.index + offset)
            offset += len(texts.rows)
        empty = self._device_zeros(1)
        if torch.is_grad_enabled():
            # data parallel training waits for a gradient of every parameter, so an adapter that
            # had no text in this step gets a gradient of 0
            empty = empty + 0.0 * sum(value.sum() for value in unused)
        return self._scatter(torch.cat([*pooled, empty]), index)

    @torch.no_grad()
    def encode_frozen(
        self, tokens: Mapping[str, Ragged], progress: Progress | None = None, bf16: bool = False
    ) -> tuple[Tensor, Tensor]:
        """What `forward` returns while the adapters are still zero, without gradients.

        Args:
            tokens: as for `forward`; equal texts are encoded once across channels too.
            progress: called after each block with the tokens done and the tokens in all.
            bf16: multiply in bfloat16; twice as fast on processors that have it, see
                benchmarks/README.md for the difference.
        """
        self._check_lengths(tokens)
        present = [column for column, channel in enumerate(CHANNELS) if channel in tokens]
        everything = concatenated([tokens[CHANNELS[column]] for column in present])
        texts = distinct_texts(everything)
        index = np.full((_num_rows(tokens), len(CHANNELS)), -1, dtype=np.int64)
        index[:, present] = texts.index.reshape(len(present), -1).T
        device = self._device_zeros(0).device.type
        with self._adapters(()), torch.autocast(device, torch.bfloat16, enabled=bf16):
            pooled = self._encode(everything, texts.rows, progress=progress)
        return self._scatter(torch.cat([pooled, self._device_zeros(1)]), index)

    def train_adapters(self, on: bool) -> None:
        """Let the adapters collect gradients, all four together, or freeze them."""
        for _, parameter in self.lora_parameters():
            parameter.requires_grad_(on)

    def lora_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Named parameters of the four adapters; the base has none that train."""
        return adapter_parameters(self.transformer)

    def merged(self) -> dict[str, Tensor]:
        """The weights as they are now, merged for a `LightEncoder`."""
        return merged_tensors(self.transformer, CHANNELS)

    def adapter_zero(self) -> Tensor:
        """A scalar 0 that depends on every adapter.

        Added to the loss of a step that uses cached features, it gives the adapters a gradient of
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
        blocks = length_blocks(lengths)
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
        batch = torch.from_numpy(ids).to(device)
        if mask.all():  # attention without a mask takes a faster kernel
            hidden: Tensor = self.transformer(input_ids=batch).last_hidden_state
            return hidden.float().mean(dim=1)  # [text, token, hidden] -> [text, hidden]
        real = torch.from_numpy(mask).to(device)
        hidden = self.transformer(input_ids=batch, attention_mask=real.long()).last_hidden_state
        weight = real[..., None].float() / real.sum(1)[:, None, None]  # [text, token, 1]
        return (hidden.float() * weight).sum(dim=1)

    def _scatter(self, pooled: Tensor, index: IntArray) -> tuple[Tensor, Tensor]:
        """Rows `index` `[code, channel]` of `pooled`, whose last row is that of a missing text."""
        at = torch.from_numpy(index).to(pooled.device)
        return pooled[at % len(pooled)], at >= 0

    def _check_lengths(self, tokens: Mapping[str, Ragged]) -> None:
        for channel, ragged in tokens.items():
            longest = int(ragged.lengths.max(initial=0))
            if longest > self.max_length:
                key = f"data_loader.tokenization.max_tokens.{channel}"
                message = f"a text of {longest} tokens is longer than the base encoder takes"
                raise ConfigError(message, f"set {key} to {self.max_length} or less")

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


def _num_rows(tokens: Mapping[str, Ragged]) -> int:
    counts = {len(ragged.lengths) for ragged in tokens.values()}
    assert len(counts) == 1, "channels hold different numbers of codes"
    return counts.pop()


def _keep_adapters(module: nn.Module, state: dict[str, Tensor], prefix: str, _: object) -> None:
    for name in [name for name in state if name.startswith(prefix) and ".lora_" not in name]:
        del state[name]


def _forgive_base(module: nn.Module, incompatible: object) -> None:
    missing: list[str] = incompatible.missing_keys  # type: ignore[attr-defined]
    missing[:] = [name for name in missing if ".transformer." not in f".{name}" or ".lora_" in name]
