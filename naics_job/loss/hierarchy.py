"""The hierarchy term: geodesic distances follow tree distances."""

import torch
from torch import Tensor, nn


class HierarchyLoss(nn.Module):
    """Regression of distances on tree distances with one learned positive scale.

    (distance / scale - tree distance)^2 / tree distance: an absolute error is ruled by the far
    pairs, which are nine in ten, and a relative one gives up the order between them.
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
        edges = tree_distance.clamp_min(1)
        error = (distance / self.scale - edges).square() / edges
        return error.masked_fill(~used, 0.0).sum() / used.sum().clamp_min(1)
