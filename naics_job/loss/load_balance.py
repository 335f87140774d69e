"""The load balancing term of the experts."""

from torch import Tensor, nn


class LoadBalanceLoss(nn.Module):
    """num_experts * sum of share of codes * share of gate, 1 when all experts are used alike.

    Fedus et al. 2021, "Switch Transformers", arXiv:2101.03961, equation 4. Differs: both inputs are
    statistics of the global batch and are scaled to shares here, so top-k routing with k > 1 also
    balances at 1. The gradient reaches the router through `importance`.
    """

    def forward(self, importance: Tensor, load: Tensor) -> Tensor:
        """A scalar in (0, num_experts].

        Args:
            importance: sum or mean over codes of the gate probability, `[expert]`.
            load: codes sent to each expert, `[expert]`.
        """
        probability = importance / importance.sum()
        share = load.detach().to(probability.dtype)
        return probability.numel() * (share / share.sum() * probability).sum()
