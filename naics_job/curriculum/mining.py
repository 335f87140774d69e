"""Hard negatives from a memory of the last embedding of every code.

Candidates are all codes of the taxonomy, visited in blocks, so memory is O(batch x block). The
chosen codes are encoded afresh in the step; the memory only says which ones.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from naics_job.data.candidates import NOBODY
from naics_job.geometry.lorentz import lorentz_gap, widen
from naics_job.taxonomy.tree import BoolArray, IntArray

BLOCK_CODES = 8192
Forbidden = Callable[[IntArray], BoolArray]  # codes [block] -> [batch, block] that may not be mined


class MemoryBank(nn.Module):
    """The newest point and gates of every training code, detached, float32, in checkpoints.

    Args:
        allowed: `[code]`; codes that are not allowed (held out) are never stored, so they can be
            neither mined nor clustered.
        dim: size of the tangent vector; a point has one more value.
        num_experts: width of the gates.
    """

    points: Tensor  # [code, dim + 1]
    gates: Tensor  # [code, expert]
    filled: Tensor  # [code] bool
    allowed: Tensor  # [code] bool

    def __init__(self, allowed: BoolArray, dim: int, num_experts: int) -> None:
        super().__init__()
        num_codes = len(allowed)
        self.register_buffer("points", torch.zeros(num_codes, dim + 1))
        self.register_buffer("gates", torch.zeros(num_codes, num_experts))
        self.register_buffer("filled", torch.zeros(num_codes, dtype=torch.bool))
        mask = torch.from_numpy(np.array(allowed))
        self.register_buffer("allowed", mask, persistent=False)

    @torch.no_grad()
    def update(self, positions: Tensor, points: Tensor, gates: Tensor) -> None:
        """Store `points` `[n, dim + 1]` and `gates` `[n, expert]` of `positions` `[n]`."""
        stored = self.allowed[positions]
        rows = positions[stored]
        self.points[rows] = points.detach()[stored].to(self.points.dtype)
        self.gates[rows] = gates.detach()[stored].to(self.gates.dtype)
        self.filled[rows] = True


def hardest(
    bank: MemoryBank, anchors: IntArray, forbidden: Forbidden, k: int, curvature: float
) -> IntArray:
    """The `k` codes nearest to each anchor in the memory: `[batch, k]` int64, nearest first.

    Rows end in -1 where fewer codes are stored and not forbidden; a row whose anchor is not stored
    is -1 throughout.
    """

    def gap(rows: Tensor, block: slice) -> Tensor:  # grows with the geodesic distance
        return lorentz_gap(bank.points[rows], bank.points[block], curvature)

    return _lowest(bank, anchors, forbidden, k, gap)


def router_guided(bank: MemoryBank, anchors: IntArray, forbidden: Forbidden, k: int) -> IntArray:
    """The `k` codes the router finds most like each anchor: `[batch, k]` int64, as `hardest`.

    Likeness is a small Kullback-Leibler divergence KL(gates of the anchor || gates of the code).
    """

    def divergence(rows: Tensor, block: slice) -> Tensor:
        own = widen(bank.gates[rows]).clamp_min(1e-12)  # [batch, expert]
        other = widen(bank.gates[block]).clamp_min(1e-12).log()  # [block, expert]
        return (own * own.log()).sum(dim=1)[:, None] - own @ other.T

    return _lowest(bank, anchors, forbidden, k, divergence)


@torch.no_grad()
def _lowest(
    bank: MemoryBank,
    anchors: IntArray,
    forbidden: Forbidden,
    k: int,
    score: Callable[[Tensor, slice], Tensor],
) -> IntArray:
    """The `k` codes with the lowest score in each row, lowest first; -1 where there are fewer."""
    device = bank.points.device
    rows = torch.from_numpy(np.asarray(anchors, dtype=np.int64)).to(device)
    best = widen(torch.empty(len(anchors), 0, device=device))
    codes = torch.full((len(anchors), 0), NOBODY, dtype=torch.int64, device=device)
    for start in range(0, len(bank.filled), BLOCK_CODES):
        block = slice(start, min(start + BLOCK_CODES, len(bank.filled)))
        columns = np.arange(block.start, block.stop)
        hidden = torch.from_numpy(forbidden(columns)).to(device)  # [batch, block]
        hidden |= ~bank.filled[block] | ~bank.filled[rows, None]
        scores = widen(score(rows, block)).masked_fill(hidden, torch.inf)
        positions = torch.arange(block.start, block.stop, device=device).expand_as(scores)
        best, codes = torch.cat([best, scores], dim=1), torch.cat([codes, positions], dim=1)
        best, order = best.topk(min(k, best.shape[1]), dim=1, largest=False)
        codes = codes.gather(1, order)
    codes = codes.masked_fill(torch.isinf(best), NOBODY)
    found: IntArray = codes.cpu().numpy()
    if found.shape[1] < k:
        found = np.pad(found, ((0, 0), (0, k - found.shape[1])), constant_values=NOBODY)
    return found
