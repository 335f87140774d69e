"""The radius term: deeper levels lie further out, and nothing runs away."""

import torch
from torch import Tensor, nn

from naics_job.geometry.lorentz import Curvature, exact_radius


class RadiusLoss(nn.Module):
    """Squared error of the radius against step * depth, with one learned positive step per level.

    The root of the tree is the origin, so a code of depth n belongs n steps out. Beyond
    `exact_radius`, where the exponential map begins to be compressed, the square of the excess is
    added: it can be reached (the map ends at `max_radius`) and a grown step does not avoid it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_step = nn.Parameter(torch.zeros(()))

    @property
    def step(self) -> Tensor:
        """Geodesic distance between two levels."""
        return self.log_step.exp()

    def forward(self, radius: Tensor, depth: Tensor, curvature: Curvature) -> Tensor:
        """Mean over codes.

        Args:
            radius: distances from the origin, `[code]`.
            depth: edges from the root of the tree, at least 1, `[code]`.
            curvature: c > 0; receives no gradient.
        """
        limit = exact_radius(curvature.detach() if isinstance(curvature, Tensor) else curvature)
        error = radius - self.step * depth
        return (error.square() + (radius - limit).clamp_min(0).square()).mean()
