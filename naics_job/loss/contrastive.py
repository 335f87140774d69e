"""The contrastive term: positives near, negatives far."""

import math

from torch import Tensor, nn

from naics_job.config.model_schema import LossConfig


class DecoupledContrastiveLoss(nn.Module):
    """Decoupled contrastive loss (Yeh et al. 2022, arXiv:2110.06848) on geodesic distances.

    Differs from the paper: similarity is minus the Lorentz distance; a margin is taken off each
    negative's distance, so that pairs with a larger margin weigh more among the negatives; masked
    negatives drop out, and an anchor that keeps none drops out with its positive, since pull
    without push only shrinks the embedding.
    """

    def __init__(self, config: LossConfig) -> None:
        super().__init__()
        self.temperature = config.code_temperature

    def forward(self, pull: Tensor, push: Tensor, keep: Tensor, margin: Tensor) -> Tensor:
        """Mean over the anchors that keep a negative; 0 if no anchor does.

        Args:
            pull: distances to the positive, `[batch]`.
            push: distances to the codes of the step, `[batch, code]`.
            keep: which of them are negatives, `[batch, code]` bool.
            margin: distance taken off `push`, `[batch, code]`.
        """
        usable = keep.any(dim=1)  # [batch]
        logits = (margin - push) / self.temperature
        push_term = logits.masked_fill(~keep, -math.inf).logsumexp(dim=1)  # -inf if nothing kept
        per_anchor = pull / self.temperature + push_term  # [batch]
        return per_anchor.masked_fill(~usable, 0.0).sum() / usable.sum().clamp_min(1)
