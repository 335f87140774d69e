"""The forward pass of a trained `NaicsEmbedder` in numpy, for answering queries without torch.

A test holds it to `NaicsEmbedder`.
"""

import math
from collections.abc import Mapping

import numpy as np

from naics_job.config.model_schema import LossConfig, ModelConfig
from naics_job.data.contracts import CHANNELS
from naics_job.geometry.light import exp_map_origin
from naics_job.model.light import Array, gelu, softmax

SMALLEST_WEIGHT = 1e-12  # of a code without any channel, whose residual is 0
SMALLEST_LENGTH = 1e-12  # of a feature, see torch.nn.functional.normalize
CURVATURE_RANGE = 10.0  # a learned curvature stays within this factor of loss.curvature


class LightEmbedder:
    """Embeds codes, called with what a `LightEncoder` returns.

    Args:
        tensors: those of a `NaicsEmbedder`, by its names.
        model: its settings.
        loss: its curvature.
        hidden_size: length of a feature.

    Raises:
        ValueError: the tensors are not those of such a model.
    """

    def __init__(
        self, tensors: Mapping[str, Array], model: ModelConfig, loss: LossConfig, hidden_size: int
    ) -> None:
        expected = embedder_shapes(model, loss, hidden_size)
        if {name: value.shape for name, value in tensors.items()} != expected:
            raise ValueError("the tensors do not fit the settings")
        self._tensors = tensors
        self._top_k = model.moe.top_k
        self.curvature = loss.curvature
        if loss.learn_curvature:
            middle, reach = math.log(loss.curvature), math.log(CURVATURE_RANGE)
            learned = float(tensors["log_curvature"])
            self.curvature = math.exp(min(max(learned, middle - reach), middle + reach))

    def __call__(self, features: Array, present: Array) -> Array:
        """Points `[code, dim + 1]`, time component first.

        Args:
            features: `[code, channel, hidden]`, ignored where the channel is missing.
            present: which channels a code has, `[code, channel]` bool.
        """
        get = self._tensors
        length = np.sqrt(np.square(features).sum(-1, keepdims=True))
        unit = features / np.maximum(length, SMALLEST_LENGTH)
        mapped = np.einsum("nch,cdh->ncd", unit, get["maps"]) + get["map_bias"]
        channels = np.where(present[..., None], mapped, get["null"])  # [code, channel, dim]
        bits = present.astype(np.float32)  # [code, channel]
        flat = channels.reshape(len(channels), -1)
        mixed = self._experts(np.concatenate([flat, bits], axis=1))
        weight = softmax(get["channel_logits"]) * bits  # [code, channel]
        weight = weight / np.maximum(weight.sum(1, keepdims=True), SMALLEST_WEIGHT)
        residual = (channels * weight[..., None]).sum(1)  # [code, dim]
        tangent = np.exp(get["log_scale"]) * (residual + mixed)
        return exp_map_origin(tangent, self.curvature)

    def _experts(self, x: Array) -> Array:
        """Output `[code, dim]` of the top-k experts of each row of `x` `[code, in_dim]`."""
        get = {name.removeprefix("experts."): value for name, value in self._tensors.items()}
        gates = softmax(x @ get["router.linear.weight"].T + get["router.linear.bias"])
        chosen = np.argsort(-gates, axis=1, kind="stable")[:, : self._top_k]  # [code, k]
        top = np.take_along_axis(gates, chosen, axis=1)
        weight = top / top.sum(1, keepdims=True) if self._top_k > 1 else top
        output = np.zeros((len(x), get["out"].shape[1]), dtype=np.float32)
        for row, (experts, shares) in enumerate(zip(chosen, weight, strict=True)):
            for expert, share in zip(experts, shares, strict=True):
                hidden = gelu(get["into"][expert] @ x[row] + get["into_bias"][expert])
                output[row] += share * (get["out"][expert] @ hidden + get["out_bias"][expert])
        return output


def embedder_shapes(
    model: ModelConfig, loss: LossConfig, hidden_size: int
) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of a `NaicsEmbedder` by its name."""
    dim, channels = model.embedding_dim, len(CHANNELS)
    experts, width, in_dim = model.moe.num_experts, model.moe.hidden_dim, channels * (dim + 1)
    shapes: dict[str, tuple[int, ...]] = {
        "maps": (channels, dim, hidden_size),
        "map_bias": (channels, dim),
        "null": (channels, dim),
        "channel_logits": (channels,),
        "log_scale": (),
        "experts.router.linear.weight": (experts, in_dim),
        "experts.router.linear.bias": (experts,),
        "experts.into": (experts, width, in_dim),
        "experts.into_bias": (experts, width),
        "experts.out": (experts, dim, width),
        "experts.out_bias": (experts, dim),
    }
    return shapes | ({"log_curvature": ()} if loss.learn_curvature else {})
