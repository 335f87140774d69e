"""The main term: a text is nearer to its code than to the others of that level."""

import math

from torch import Tensor, nn

from naics_job.config.model_schema import LossConfig


class TextContrastiveLoss(nn.Module):
    """Weighted InfoNCE (van den Oord et al. 2018, arXiv:1807.03748) on geodesic distances.

    Differs from the paper: each wrong answer has a weight, which is where the curriculum acts, and
    a margin is taken off its distance. Those that the step did not encode stand with their last
    point, as in MoCo (He et al. 2020, arXiv:1911.05722).
    """

    def __init__(self, config: LossConfig) -> None:
        super().__init__()
        self.temperature = config.temperature

    def forward(
        self, distance: Tensor, truth: Tensor, log_weight: Tensor, margin: Tensor
    ) -> Tensor:
        """Mean over the texts that have a wrong answer to be kept from; 0 if none has.

        Args:
            distance: from the texts to the codes, `[query, code]`.
            truth: column of each text's code, `[query]` int64.
            log_weight: of the wrong answers, `[query, code]`; -inf for what is none.
            margin: distance taken off the wrong answers, `[query, code]`.
        """
        usable = (log_weight > -math.inf).any(dim=1)  # [query]
        if not bool(usable.any()):
            return distance.sum() * 0.0
        pull = -distance.gather(1, truth[:, None]) / self.temperature  # [query, 1]
        push = (margin - distance) / self.temperature + log_weight  # [query, code]
        total = push.scatter(1, truth[:, None], pull).logsumexp(dim=1)
        return (total - pull[:, 0]).masked_fill(~usable, 0.0).sum() / usable.sum()
