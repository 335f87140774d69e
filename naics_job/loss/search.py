"""The search term: a short text finds its code among all six-digit codes."""

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from naics_job.config.model_schema import LossConfig


class SearchLoss(nn.Module):
    """Cross entropy of the right code under a softmax over minus the geodesic distances.

    InfoNCE (van den Oord et al. 2018, arXiv:1807.03748). Differs from the paper: the other answers
    are not a sample but every code that may be the answer, those that the step did not encode by
    their last embedding, as in MoCo (He et al. 2020, arXiv:1911.05722).
    """

    def __init__(self, config: LossConfig) -> None:
        super().__init__()
        self.temperature = config.search_temperature

    def forward(self, distance: Tensor, truth: Tensor) -> Tensor:
        """Mean over the queries; 0 if there is none.

        Args:
            distance: from the queries to the candidates, `[query, candidate]`.
            truth: column of each query's code, `[query]` int64.
        """
        if len(truth) == 0:
            return distance.sum()
        return cross_entropy(-distance / self.temperature, truth)
