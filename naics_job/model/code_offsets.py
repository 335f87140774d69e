"""What the texts of a code do not say of its place in the tree."""

import torch
from torch import Tensor, nn

from naics_job.model.noise import RowNoise


class CodeOffsets(nn.Module):
    """A learned offset of each code, added to the tree part that is made of its texts.

    Without it the maps and experts learn by heart where each training code stands, and place codes
    they have not seen the worse for it. In training a code stands without its offset in a share of
    the steps (as in DropoutNet, Volkovs et al. 2017), so its texts must do; a code that is held
    out, and a query, has none.

    Args:
        num_codes: in the taxonomy.
        dim: `model.tree_dim`.
        dropout: share of the steps; 1: no code has an offset.
    """

    def __init__(self, num_codes: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.dim, self.dropout = dim, dropout
        if dropout < 1:
            self.table = nn.Parameter(torch.zeros(num_codes, dim))
        else:
            self.register_parameter("table", None)

    def forward(self, code: Tensor, noise: RowNoise | None) -> Tensor:
        """Offsets `[row, dim]` float32.

        Args:
            code: positions `[row]` int64, -1 for a query.
            noise: of the step; only read in training.
        """
        if self.table is None:
            return torch.zeros((len(code), self.dim), device=code.device)
        shown = code >= 0
        if self.training and self.dropout:
            assert noise is not None, "dropout needs the noise of the step"
            shown = shown & (noise.of(code).uniform("offsets", 1)[:, 0] >= self.dropout)
        return self.table[code.clamp_min(0)] * shown[:, None]
