"""The forward pass of a trained channel encoder on plain tensors, for answering queries.

Importing transformers and PEFT takes several times as long as all else a query needs. What they
compute for one text is a page of code; a test holds it to `ChannelEncoder`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from naics_job.data.contracts import CHANNELS
from naics_job.data.tokens import Ragged

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {  # names of transformers
    "gelu": functional.gelu,
    "gelu_new": partial(functional.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(functional.gelu, approximate="tanh"),
    "relu": functional.relu,
    "silu": functional.silu,
}


@dataclass(frozen=True)
class EncoderShape:
    """What the tensors of an encoder do not say about it."""

    num_layers: int
    num_heads: int
    norm_epsilon: float
    first_position: int  # row of the position table that belongs to the first token
    activation: str  # a key of ACTIVATIONS


class LightEncoder:
    """Encodes texts one by one, called like a `ChannelEncoder` whose adapters are merged.

    Attributes:
        tensors: by the names of transformers; a tensor that an adapter changes is there once per
            channel, under `<channel>/<name>`.
    """

    def __init__(self, tensors: Mapping[str, Tensor], shape: EncoderShape) -> None:
        self.tensors, self.shape = tensors, shape

    @property
    def hidden_size(self) -> int:
        """Length of a feature."""
        return self.tensors["embeddings.LayerNorm.weight"].shape[0]

    @torch.no_grad()
    def __call__(self, tokens: Mapping[str, Ragged]) -> tuple[Tensor, Tensor]:
        """Features `[text, channel, hidden]`, 0 where missing, and presence `[text, channel]`.

        Args:
            tokens: per channel the token lists of the same texts, none longer than the encoder's
                table of positions; a channel may be left out.
        """
        num_texts = len(next(iter(tokens.values())).lengths)
        features = torch.zeros(num_texts, len(CHANNELS), self.hidden_size)
        present = torch.zeros(num_texts, len(CHANNELS), dtype=torch.bool)
        for channel, ragged in tokens.items():
            column = CHANNELS.index(channel)
            lists = np.split(ragged.ids.astype(np.int64), np.cumsum(ragged.lengths)[:-1])
            for row, ids in enumerate(lists):
                if len(ids):
                    features[row, column] = self._encode(torch.from_numpy(ids), channel)
                    present[row, column] = True
        return features, present

    def _encode(self, ids: Tensor, channel: str) -> Tensor:
        """Mean-pooled feature `[hidden]` of the tokens `ids` `[token]`."""
        count, heads = len(ids), self.shape.num_heads
        first = self.shape.first_position

        def get(name: str) -> Tensor:
            changed = self.tensors.get(f"{channel}/{name}")
            return self.tensors[name] if changed is None else changed

        def linear(x: Tensor, name: str) -> Tensor:
            return functional.linear(x, get(f"{name}.weight"), get(f"{name}.bias"))

        def norm(x: Tensor, name: str) -> Tensor:
            weight, bias = get(f"{name}.weight"), get(f"{name}.bias")
            return functional.layer_norm(x, weight.shape, weight, bias, self.shape.norm_epsilon)

        x = get("embeddings.word_embeddings.weight")[ids]  # [token, hidden]
        x = x + get("embeddings.position_embeddings.weight")[first : first + count]
        x = norm(x + get("embeddings.token_type_embeddings.weight")[0], "embeddings.LayerNorm")
        for layer in range(self.shape.num_layers):
            at = f"encoder.layer.{layer}"
            query, key, value = (
                linear(x, f"{at}.attention.self.{name}").view(count, heads, -1).transpose(0, 1)
                for name in ("query", "key", "value")
            )  # [head, token, hidden / heads]
            mixed = (
                functional.scaled_dot_product_attention(query, key, value)
                .transpose(0, 1)
                .flatten(1)
            )
            mixed = linear(mixed, f"{at}.attention.output.dense")  # [token, hidden]
            x = norm(x + mixed, f"{at}.attention.output.LayerNorm")
            wide = ACTIVATIONS[self.shape.activation](linear(x, f"{at}.intermediate.dense"))
            x = norm(x + linear(wide, f"{at}.output.dense"), f"{at}.output.LayerNorm")
        return x.mean(0)
