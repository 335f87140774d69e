"""The ranking term: near relatives stand before far ones in an anchor's list."""

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from naics_job.config.model_schema import LossConfig

SMALLEST = 1e-12  # sum of the changes of an anchor whose list has one kind of relative
RANKING_DEPTH = 10  # the term follows NDCG at this depth


class LambdaRankLoss(nn.Module):
    """LambdaRank (Burges 2010, MSR-TR-2010-82) with the gains of NDCG@10, relevance 1/(1+d).

    A pair of codes of which one is the nearer relative costs
    |change of NDCG@10 if they swapped places| * softplus((d_near - d_far) / temperature): descent
    moves the nearer relative closer and the other away, most where the order is wrong. The changes
    of NDCG are constants of the step. Differs from the paper: linear gains, as in the evaluation,
    and the changes of an anchor are scaled to sum 1, so that the term does not grow with the list.

    A swap changes NDCG@10 only if one of the two is among the ten nearest, so the pairs are
    `[batch, 10, code]` and not `[batch, code, code]`.
    """

    def __init__(self, config: LossConfig) -> None:
        super().__init__()
        self.temperature = config.rank_temperature

    def forward(self, distance: Tensor, tree_distance: Tensor, keep: Tensor) -> Tensor:
        """Mean over the anchors, not below 0; an anchor without a ranked pair counts 0.

        Args:
            distance: geodesic, `[batch, code]`.
            tree_distance: edges, `[batch, code]`.
            keep: the codes of each list, `[batch, code]` bool; the anchor itself is left out.
        """
        used = keep & (tree_distance > 0)
        relevance = torch.where(used, 1 / (1 + tree_distance.to(distance.dtype)), 0.0)
        top, weight, sign = _swaps(distance.detach(), relevance, used)
        near = distance.gather(1, top)[:, :, None]  # [batch, k, 1]
        gap = sign * (near - distance[:, None, :]) / self.temperature  # [batch, k, code]
        per_anchor = (weight * softplus(gap)).sum((1, 2)) / weight.sum((1, 2)).clamp_min(SMALLEST)
        return per_anchor.mean()


@torch.no_grad()
def _swaps(distance: Tensor, relevance: Tensor, used: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The ten nearest codes, and weight and sign of their pairs with every code behind them.

    Returns:
        top: positions of the nearest codes in order, `[batch, k]`.
        weight: |change of NDCG@10|, `[batch, k, code]`.
        sign: 1 where the top code is the nearer relative, -1 where the other is.
    """
    num_codes = distance.shape[1]
    depth = min(RANKING_DEPTH, num_codes)
    order = distance.masked_fill(~used, torch.inf).argsort(dim=1, stable=True)  # [batch, code]
    place = torch.empty_like(order)
    places = torch.arange(num_codes, device=order.device).expand_as(order)
    place.scatter_(1, order, places)  # 0 for the nearest
    discount = torch.where(place < depth, 1 / torch.log2(place + 2.0), 0.0).to(distance.dtype)
    top = order[:, :depth]  # [batch, k]
    ideal = (relevance.topk(depth, dim=1).values * discount.gather(1, top)).sum(1)  # [batch]
    gain = relevance.gather(1, top)[:, :, None] - relevance[:, None, :]  # [batch, k, code]
    fall = discount.gather(1, top)[:, :, None] - discount[:, None, :]
    both = used.gather(1, top)[:, :, None] & used[:, None, :]
    behind = places[:, None, :depth].transpose(1, 2) < place[:, None, :]  # each pair once
    weight = (gain * fall).abs() / ideal.clamp_min(1e-12)[:, None, None] * (both & behind)
    return top, weight, gain.sign()
