"""From channel features to points of the hyperboloid: channel maps, experts, exponential map."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from naics_job.config.model_schema import LossConfig, ModelConfig
from naics_job.data.contracts import CHANNELS
from naics_job.geometry.lorentz import exp_map_origin, radius
from naics_job.model.light_embedder import CURVATURE_RANGE, SMALLEST_LENGTH, SMALLEST_WEIGHT
from naics_job.model.moe import MixtureOfExperts
from naics_job.model.noise import RowDropout, RowNoise

START_SCALE = 3.0  # texts of length 1, centred, become radii of about 2 with it
PROJECTION_SEED = 0  # of the fixed start of the channel maps when the sizes differ


@dataclass(frozen=True)
class Encoded:
    """What the model says about a list of codes; float32 throughout."""

    points: Tensor  # [code, dim + 1], time component first
    tangent: Tensor  # [code, dim] before the exponential map
    gates: Tensor  # [code, expert] softmax over all experts
    radius: Tensor  # [code] distance from the origin
    importance: Tensor  # [expert] mean gate probability
    load: Tensor  # [expert] share of the assignments, no gradient
    curvature: float | Tensor  # c > 0
    top_k: int  # experts per code

    def first(self, num_rows: int) -> "Encoded":
        """The first `num_rows` rows, with the expert statistics over all of them."""
        rows = ("points", "tangent", "gates", "radius")
        return replace(self, **{name: getattr(self, name)[:num_rows] for name in rows})


def drop_channels(present: Tensor, rate: float, noise: RowNoise) -> Tensor:
    """Hide each present channel with probability `rate`, but never the last one of a code.

    Args:
        present: `[code, channel]` bool.
        rate: in [0, 1).
        noise: of the codes.
    """
    draw = noise.uniform("channels", present.shape[1]).masked_fill(~present, -1.0)
    last = draw == draw.amax(dim=1, keepdim=True)  # where all are dropped, the largest draw stays
    return present & ((draw >= rate) | last)


class NaicsEmbedder(nn.Module):
    """Embed codes from the pooled features of their channels.

    tangent = scale * (weighted mean of the mapped present channels + experts(channels, mask)); the
    maps start at the identity and the experts at 0, so training starts from the geometry of the
    text encoder. Features are scaled to length 1 first, as the base encoder was trained to be used,
    and `center` puts the mean of each channel at the origin of the tangent space.
    """

    def __init__(self, config: ModelConfig, loss: LossConfig, hidden_size: int) -> None:
        super().__init__()
        dim, channels = config.embedding_dim, len(CHANNELS)
        self.channel_dropout = config.channel_dropout
        self.feature_dropout = RowDropout("features", config.feature_dropout)
        start = _start_map(dim, hidden_size)
        self.maps = nn.Parameter(start.repeat(channels, 1, 1))  # [channel, dim, hidden]
        self.map_bias = nn.Parameter(torch.zeros(channels, dim))
        self.null = nn.Parameter(torch.zeros(channels, dim))  # stands for a missing channel
        self.channel_logits = nn.Parameter(torch.zeros(channels))  # weights of the residual mean
        self.experts = MixtureOfExperts(channels * (dim + 1), dim, config.moe)
        self.log_scale = nn.Parameter(torch.tensor(math.log(START_SCALE)))
        self.first_curvature = loss.curvature
        if loss.learn_curvature:
            self.log_curvature = nn.Parameter(torch.tensor(math.log(loss.curvature)))
        else:
            self.register_parameter("log_curvature", None)

    @property
    def curvature(self) -> float | Tensor:
        """Curvature c: the setting, or the learned value within a factor of 10 of it."""
        if self.log_curvature is None:
            return self.first_curvature
        middle, reach = math.log(self.first_curvature), math.log(CURVATURE_RANGE)
        return self.log_curvature.clamp(middle - reach, middle + reach).exp()

    def curvature_value(self) -> float:
        """The curvature as a number, for what needs no gradient of it."""
        curvature = self.curvature
        return curvature if isinstance(curvature, float) else float(curvature.detach())

    @torch.no_grad()
    def center(self, features: Tensor, present: Tensor) -> None:
        """Start the maps' offsets at minus the mean of each channel over some codes.

        Args:
            features: of the training codes, `[code, channel, hidden]`.
            present: `[code, channel]` bool.
        """
        unit = _unit(features) * present[..., None]
        mean = unit.sum(0) / present.sum(0).clamp_min(1)[:, None]  # [channel, hidden]
        self.map_bias.copy_(-torch.einsum("ch,cdh->cd", mean, self.maps))

    def forward(self, features: Tensor, present: Tensor, noise: RowNoise | None = None) -> Encoded:
        """Embed codes.

        Args:
            features: `[code, channel, hidden]`, ignored where the channel is missing.
            present: which channels a code has, `[code, channel]` bool.
            noise: of the codes; dropout in training reads it.
        """
        if self.training and self.channel_dropout:
            assert noise is not None, "dropout needs the noise of the step"
            present = drop_channels(present, self.channel_dropout, noise)
        unit = _unit(features)
        unit = self.feature_dropout(unit.flatten(1), noise).view_as(unit)
        mapped = (
            torch.einsum("nch,cdh->ncd", unit, self.maps) + self.map_bias
        )  # [code, channel, dim]
        mask = present[..., None]
        channels = torch.where(mask, mapped, self.null)  # [code, channel, dim]
        bits = present.to(channels.dtype)  # [code, channel]
        mixture = self.experts(torch.cat([channels.flatten(1), bits], dim=1), noise)
        weight = self.channel_logits.softmax(0) * bits  # [code, channel]
        weight = weight / weight.sum(1, keepdim=True).clamp_min(SMALLEST_WEIGHT)
        residual = (channels * weight[..., None]).sum(1)  # [code, dim]
        with torch.autocast(features.device.type, enabled=False):  # float32 from here on
            tangent = self.log_scale.exp() * (residual.float() + mixture.output.float())
            points = exp_map_origin(tangent, self.curvature)  # [code, dim + 1]
            return Encoded(
                points=points,
                tangent=tangent,
                gates=mixture.gates,
                radius=radius(points, self.curvature),
                importance=mixture.importance,
                load=mixture.load,
                curvature=self.curvature,
                top_k=self.experts.top_k,
            )


def _unit(features: Tensor) -> Tensor:
    """Features scaled to length 1, as the base encoder was trained to be used."""
    return nn.functional.normalize(features.float(), dim=-1, eps=SMALLEST_LENGTH)


def _start_map(dim: int, hidden_size: int) -> Tensor:
    """Identity `[dim, hidden]`, or a fixed orthogonal projection where the sizes differ."""
    if dim == hidden_size:
        return torch.eye(dim)
    generator = torch.Generator().manual_seed(PROJECTION_SEED)
    return nn.init.orthogonal_(torch.empty(dim, hidden_size), generator=generator)
