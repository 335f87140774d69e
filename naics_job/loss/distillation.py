"""The distillation term: the adapted encoder ranks codes for a text as the frozen one does."""

import math

from torch import Tensor, nn
from torch.nn.functional import log_softmax

TEMPERATURE = 0.05  # divides cosines; the encoder was trained with it


class DistillationLoss(nn.Module):
    """KL divergence (Hinton et al. 2015, arXiv:1503.02531) from the frozen encoder's ranking.

    Fine-tuning distorts what a pretrained encoder knows of texts that training does not show
    (Kumar et al. 2022, arXiv:2202.10054). The frozen encoder does not see the boilerplate around a
    text, so the adapters learn to read past it. The user's own texts are left out: they are of the
    kind that is asked, and their codes are known. Nothing to say while the adapters rest.
    """

    def forward(self, student: Tensor, teacher: Tensor, shown: Tensor, taught: Tensor) -> Tensor:
        """Mean over the texts that are taught; 0 if there is none.

        Args:
            student: cosines of the texts to the codes, `[query, code]`.
            teacher: the same by the frozen encoder, no gradient.
            shown: the codes that are ranked, `[query, code]` bool; at least one each.
            taught: whether a text counts, `[query]` bool.
        """
        ours = log_softmax((student / TEMPERATURE).masked_fill(~shown, -math.inf), dim=1)
        theirs = log_softmax((teacher / TEMPERATURE).masked_fill(~shown, -math.inf), dim=1)
        gap = (theirs - ours).masked_fill(~shown, 0.0)
        each = (theirs.exp() * gap).sum(dim=1).masked_fill(~taught, 0.0)  # [query]
        return each.sum() / taught.sum().clamp_min(1)
