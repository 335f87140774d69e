"""The forward pass of a trained channel encoder in numpy, for answering queries.

Importing torch, transformers and PEFT takes several times as long as all else a query needs. What
they compute for one text is a page of code; a test holds it to `ChannelEncoder`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from naics_job.data.contracts import CHANNELS
from naics_job.data.tokens import Ragged

Array = np.ndarray  # float32 unless said otherwise


def gelu(x: Array) -> Array:
    """Gaussian error linear unit of `x`, by the exact error function, which numpy lacks."""
    erf = np.fromiter(map(math.erf, (x / math.sqrt(2)).ravel().tolist()), np.float32, x.size)
    product: Array = x * (0.5 * (1 + erf.reshape(x.shape)))
    return product


def _gelu_tanh(x: Array) -> Array:
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    product: Array = 0.5 * x * (1 + np.tanh(inner))
    return product


def _relu(x: Array) -> Array:
    positive: Array = np.maximum(x, 0)
    return positive


def _silu(x: Array) -> Array:
    half = 0.5 * x  # x / (1 + exp(-x)), which overflows for large negative x
    product: Array = half * (1 + np.tanh(half))
    return product


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {  # names of transformers
    "gelu": gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "relu": _relu,
    "silu": _silu,
}


def softmax(x: Array) -> Array:
    """Softmax over the last axis."""
    power = np.exp(x - x.max(-1, keepdims=True))
    share: Array = power / power.sum(-1, keepdims=True)
    return share


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

    def __init__(self, tensors: Mapping[str, Array], shape: EncoderShape) -> None:
        self.tensors, self.shape = tensors, shape

    @property
    def hidden_size(self) -> int:
        """Length of a feature."""
        return len(self.tensors["embeddings.LayerNorm.weight"])

    def __call__(self, tokens: Mapping[str, Ragged]) -> tuple[Array, Array]:
        """Features `[text, channel, hidden]`, 0 where missing, and presence `[text, channel]` bool.

        Args:
            tokens: per channel the token lists of the same texts, none longer than the encoder's
                table of positions; a channel may be left out.
        """
        num_texts = len(next(iter(tokens.values())).lengths)
        features = np.zeros((num_texts, len(CHANNELS), self.hidden_size), dtype=np.float32)
        present = np.zeros((num_texts, len(CHANNELS)), dtype=np.bool_)
        for channel, ragged in tokens.items():
            column = CHANNELS.index(channel)
            for row, ids in enumerate(np.split(ragged.ids, np.cumsum(ragged.lengths)[:-1])):
                if len(ids):
                    features[row, column] = self._encode(ids, channel)
                    present[row, column] = True
        return features, present

    def _encode(self, ids: Array, channel: str) -> Array:
        """Mean-pooled feature `[hidden]` of the tokens `ids` `[token]` int32."""
        count, heads = len(ids), self.shape.num_heads
        first = self.shape.first_position

        def get(name: str) -> Array:
            changed = self.tensors.get(f"{channel}/{name}")
            return self.tensors[name] if changed is None else changed

        def linear(x: Array, name: str) -> Array:
            product: Array = x @ get(f"{name}.weight").T + get(f"{name}.bias")
            return product

        def norm(x: Array, name: str) -> Array:
            centred = x - x.mean(-1, keepdims=True)
            variance = np.square(centred).mean(-1, keepdims=True)
            unit = centred / np.sqrt(variance + np.float32(self.shape.norm_epsilon))
            scaled: Array = unit * get(f"{name}.weight") + get(f"{name}.bias")
            return scaled

        x = get("embeddings.word_embeddings.weight")[ids]  # [token, hidden]
        x = x + get("embeddings.position_embeddings.weight")[first : first + count]
        x = norm(x + get("embeddings.token_type_embeddings.weight")[0], "embeddings.LayerNorm")
        for layer in range(self.shape.num_layers):
            at = f"encoder.layer.{layer}"
            query, key, value = (
                linear(x, f"{at}.attention.self.{name}").reshape(count, heads, -1).swapaxes(0, 1)
                for name in ("query", "key", "value")
            )  # [head, token, hidden / heads]
            scores = query @ key.swapaxes(1, 2) / np.float32(math.sqrt(query.shape[2]))
            mixed = (softmax(scores) @ value).swapaxes(0, 1).reshape(count, -1)
            mixed = linear(mixed, f"{at}.attention.output.dense")  # [token, hidden]
            x = norm(x + mixed, f"{at}.attention.output.LayerNorm")
            wide = ACTIVATIONS[self.shape.activation](linear(x, f"{at}.intermediate.dense"))
            x = norm(x + linear(wide, f"{at}.output.dense"), f"{at}.output.LayerNorm")
        pooled: Array = x.mean(0)
        return pooled
