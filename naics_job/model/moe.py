"""Mixture of experts over the concatenated channels of a code."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from naics_job.config.model_schema import MoeConfig
from naics_job.model.noise import RowDropout, RowNoise


@dataclass(frozen=True)
class Mixture:
    """What the experts make of a list of codes."""

    output: Tensor  # [code, dim]
    gates: Tensor  # [code, expert] softmax over all experts, float32
    importance: Tensor  # [expert] mean gate probability
    load: Tensor  # [expert] share of the code-to-expert assignments


def expert_statistics(gates: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Importance and load `[expert]`, each of sum 1.

    With the rows of the global batch these are the global statistics. Only importance has a
    gradient.

    Args:
        gates: `[code, expert]`.
        chosen: the experts of each code, `[code, k]`.
    """
    counts = torch.bincount(chosen.flatten(), minlength=gates.shape[1]).to(gates.dtype)
    return gates.sum(0) / max(1, len(gates)), counts / max(1, chosen.numel())


class Router(nn.Module):
    """A linear gate over the experts."""

    def __init__(self, in_dim: int, num_experts: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_dim, num_experts)
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Gate distribution `[code, expert]` float32 of `x` `[code, in_dim]`."""
        gates: Tensor = self.linear(x).float().softmax(dim=-1)
        return gates


class MixtureOfExperts(nn.Module):
    """Top-k of n two-layer experts (Shazeer et al. 2017, arXiv:1701.06538).

    Differs from the paper: the gates have no noise; a bias on the choice, moved against the load
    of every step, keeps all experts in use without a gradient (Wang et al. 2024, arXiv:2408.15664,
    as in DeepSeek-V3); the weights are the probabilities of the chosen scaled to sum 1 (for k = 1
    the probability itself, as in Switch, else the router would get no gradient from the task);
    every expert's last layer starts at 0, so the block starts as a residual of 0.
    """

    bias: Tensor  # [expert], added to the gates where experts are chosen

    def __init__(self, in_dim: int, out_dim: int, config: MoeConfig) -> None:
        super().__init__()
        self.top_k, self.num_experts = config.top_k, config.num_experts
        self.router = Router(in_dim, config.num_experts)
        self.balance_rate = config.balance_rate
        self.register_buffer("bias", torch.zeros(config.num_experts))
        self.dropout = RowDropout("experts", config.dropout)
        width = config.hidden_dim
        self.into = nn.Parameter(torch.empty(config.num_experts, width, in_dim))
        self.into_bias = nn.Parameter(torch.zeros(config.num_experts, width))
        self.out = nn.Parameter(torch.zeros(config.num_experts, out_dim, width))
        self.out_bias = nn.Parameter(torch.zeros(config.num_experts, out_dim))
        nn.init.normal_(self.into, std=in_dim**-0.5)

    @torch.no_grad()
    def balance(self, load: Tensor) -> None:
        """Move the choice towards experts whose share `load` `[expert]` is below the mean."""
        self.bias += self.balance_rate * torch.sign(load.mean() - load)

    def forward(self, x: Tensor, counted: Tensor, noise: RowNoise | None = None) -> Mixture:
        """Send each row of `x` `[code, in_dim]` through its top-k experts.

        Args:
            x: the codes.
            counted: rows that the statistics are of, `[code]` bool.
            noise: of the codes; dropout in training reads it.
        """
        gates = self.router(x)  # [code, expert]
        chosen = (gates.detach() + self.bias).topk(self.top_k, dim=1).indices  # [code, k]
        top = gates.gather(1, chosen)
        weight = top / top.sum(1, keepdim=True) if self.top_k > 1 else top
        # rows sorted by expert: each expert multiplies its own rows only
        order = chosen.flatten().argsort(stable=True)  # [code * k]
        counts = torch.bincount(chosen.flatten(), minlength=self.num_experts).tolist()
        code = order // self.top_k
        visits = torch.split(x[code], counts)  # per expert [rows of the expert, in_dim]
        hidden = torch.cat([self._hidden(expert, rows) for expert, rows in enumerate(visits)])
        if noise is not None:  # each visit of an expert has its own
            noise = noise.at(code).each(chosen.flatten()[order], self.num_experts)
        dropped = torch.split(self.dropout(hidden, noise), counts)
        parts = [self._out(expert, rows) for expert, rows in enumerate(dropped)]
        weighted = torch.cat(parts).to(x.dtype) * weight.flatten()[order, None]  # [code * k, dim]
        output = x.new_zeros((len(x), self.out.shape[1])).index_add(0, code, weighted)
        return Mixture(output, gates, *expert_statistics(gates[counted], chosen[counted]))

    def _hidden(self, expert: int, x: Tensor) -> Tensor:
        return nn.functional.gelu(
            nn.functional.linear(x, self.into[expert], self.into_bias[expert])
        )

    def _out(self, expert: int, hidden: Tensor) -> Tensor:
        return nn.functional.linear(hidden, self.out[expert], self.out_bias[expert])
