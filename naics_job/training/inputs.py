"""From the encoded codes of a step to what the loss terms read."""

import numpy as np
import torch
from torch import Tensor

from naics_job.curriculum.mining import MemoryBank
from naics_job.curriculum.plan import NegativePlanner
from naics_job.curriculum.schedule import PhaseState
from naics_job.data.batch import CodeBatch
from naics_job.data.query_views import QueryDraw
from naics_job.geometry.lorentz import pairwise_distance
from naics_job.loss.objective import LossInputs
from naics_job.model.embedder import Encoded
from naics_job.taxonomy.tree import Taxonomy

MAX_CANDIDATES = 8192  # of the search term beside the codes of the step; more are thinned out


def loss_inputs(
    encoded: Encoded,
    queries: Tensor,
    asked: QueryDraw,
    batch: CodeBatch,
    planner: NegativePlanner,
    state: PhaseState,
    taxonomy: Taxonomy,
) -> LossInputs:
    """Distances, masks and targets between the anchors and every code of the step.

    Args:
        encoded: points `[code, dim + 1]` and gates `[code, expert]` of the step's unique codes.
        queries: points `[query, dim + 1]` of the step's query texts.
        asked: the codes that the queries ask for; each is a code of the step.
        batch: roles of the codes; `anchor` and `positive` `[batch]` are rows of `encoded`.
        planner: says which encoded codes are negatives of which anchor, after mining.
        state: where the curriculum stands.
        taxonomy: tree distances and depths.
    """
    device = encoded.points.device
    codes = batch.codes.cpu().numpy()
    anchors = codes[batch.anchor.cpu().numpy()]
    keep = planner.keep(anchors, codes, state)  # [batch, code]
    keep[np.arange(len(anchors)), batch.positive.cpu().numpy()] = False
    attract = planner.attract(anchors, codes, state)  # [batch, code]

    def move(array: np.ndarray, dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device, dtype)

    candidates, points = _candidates(encoded, batch.codes, planner.bank, taxonomy)
    truth = torch.from_numpy(asked.codes).to(device)
    tree = taxonomy.tree_distance(anchors, codes)  # [batch, code]
    return LossInputs(
        distance=pairwise_distance(encoded.points[batch.anchor], encoded.points, encoded.curvature),
        tree_distance=move(tree, torch.float32),
        positive=batch.positive,
        keep=move(keep, torch.bool),
        attract=move(attract, torch.bool),
        pair_margin=batch.margin,
        anchor_radius=encoded.radius[batch.anchor],
        radius=encoded.radius,
        depth=move(taxonomy.depth[codes], torch.long),
        importance=encoded.importance,
        load=encoded.load,
        query_distance=pairwise_distance(queries, points, encoded.curvature),
        query_truth=torch.searchsorted(candidates, truth),
        curvature=encoded.curvature,
    )


def global_batch_memory(encoded: Encoded, inputs: LossInputs) -> dict[str, float]:
    """What the codes of all processes take on each of them in one step: counts and bytes."""
    rows = (encoded.points, encoded.tangent, encoded.gates, encoded.radius)
    pairs = (inputs.distance, inputs.tree_distance, inputs.keep, inputs.attract)
    tables = (*pairs, inputs.query_distance)
    return {
        "num_codes": float(len(encoded.points)),
        "num_pairs": float(inputs.distance.numel()),
        "codes_bytes": float(sum(tensor.nbytes for tensor in rows)),
        "pairs_bytes": float(sum(tensor.nbytes for tensor in tables)),
    }


def _candidates(
    encoded: Encoded, codes: Tensor, bank: MemoryBank, taxonomy: Taxonomy
) -> tuple[Tensor, Tensor]:
    """Six-digit codes that a query may mean, ascending `[candidate]`, and their points.

    Those of the step have their fresh points, with gradients; the others the last ones known. Held
    out codes are never among them, as the memory does not store them.
    """
    device = codes.device
    leaf = torch.zeros(len(taxonomy), dtype=torch.bool, device=device)
    leaf[torch.from_numpy(taxonomy.six_digit()).to(device)] = True
    fresh = torch.zeros_like(leaf)
    fresh[codes] = True
    known = torch.nonzero(leaf & bank.filled & bank.allowed & ~fresh)[:, 0]
    known = known[:: -(-len(known) // MAX_CANDIDATES) or 1]
    rows = torch.nonzero(leaf[codes] & bank.allowed[codes])[:, 0]
    candidates, order = torch.cat([codes[rows], known]).sort()
    points = torch.cat([encoded.points[rows], bank.points[known]])
    return candidates, points[order]
