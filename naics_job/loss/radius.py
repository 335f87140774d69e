"""The radius term: deeper levels lie further out, and nothing runs away."""

from torch import Tensor, nn

from naics_job.geometry.light import EXACT_RADIUS


class RadiusLoss(nn.Module):
    """Squared error of the radius against edge * depth.

    The root of the tree is the origin, so a code of depth n belongs n edges out; the length of an
    edge is what the hierarchy term has learned, and gets no gradient here. Beyond
    `exact_radius`, where the exponential map begins to be compressed, the square of the excess is
    added: it can be reached (the map ends at `max_radius`) and a grown edge does not avoid it.
    """

    def forward(self, radius: Tensor, depth: Tensor, edge: Tensor | float) -> Tensor:
        """Mean over codes; everything in units of 1 / sqrt(c).

        Args:
            radius: distances from the origin, `[code]`.
            depth: edges from the root of the tree, at least 1, `[code]`.
            edge: geodesic distance that stands for one edge of the tree; receives no gradient.
        """
        length = edge.detach() if isinstance(edge, Tensor) else edge
        error = radius - length * depth
        return (error.square() + (radius - EXACT_RADIUS).clamp_min(0).square()).mean()
