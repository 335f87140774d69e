"""The hierarchy term: geodesic distances follow tree distances."""

import torch
from torch import Tensor, nn
from torch.nn.functional import huber_loss


class HierarchyLoss(nn.Module):
    """Regression of distances on tree distances with one learned positive scale.

    The error is relative, distance / (scale * tree distance) - 1, because an absolute one is ruled
    by the far pairs, which are nine in ten. Huber's loss keeps a stray pair from ruling the step.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))

    @property
    def scale(self) -> Tensor:
        """Geodesic distance that stands for one edge of the tree."""
        return self.log_scale.exp()

    def forward(self, distance: Tensor, tree_distance: Tensor, keep: Tensor) -> Tensor:
        """Mean over the kept pairs of different codes; 0 if there is none.

        Args:
            distance: geodesic, `[batch, code]`.
            tree_distance: edges, `[batch, code]`; pairs at 0 (a code and itself) are left out.
            keep: pairs to look at, `[batch, code]` bool.
        """
        used = keep & (tree_distance > 0)
        target = self.scale * tree_distance.clamp_min(1)
        ratio = (distance / target).masked_fill(~used, 1.0)
        error = huber_loss(ratio, torch.ones_like(ratio), reduction="sum")
        return error / used.sum().clamp_min(1)
