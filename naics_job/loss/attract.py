"""Attraction of suspected false negatives."""

from torch import Tensor, nn


class AttractionLoss(nn.Module):
    """Mean geodesic distance of the pairs to pull together.

    Huynh et al. 2022, "Boosting Contrastive Self-Supervised Learning with False Negative
    Cancellation", arXiv:2011.11765, section 3.3, where a false negative is treated as a positive.
    Differs: the pairs are those that share a Lorentz k-means cluster.
    """

    def forward(self, distance: Tensor, attract: Tensor) -> Tensor:
        """A scalar, 0 if there is no pair.

        Args:
            distance: geodesic, `[batch, code]`.
            attract: pairs of one cluster, `[batch, code]` bool.
        """
        return distance.masked_fill(~attract, 0.0).sum() / attract.sum().clamp_min(1)
