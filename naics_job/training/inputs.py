"""From the encoded codes of a step to what the loss terms read."""

import numpy as np
import torch
from torch import Tensor

from naics_job.curriculum.plan import NegativePlanner
from naics_job.curriculum.schedule import PhaseState
from naics_job.data.batch import CodeBatch
from naics_job.geometry.lorentz import pairwise_distance
from naics_job.loss.objective import LossInputs
from naics_job.model.embedder import Encoded
from naics_job.taxonomy.tree import Taxonomy


def loss_inputs(
    encoded: Encoded,
    batch: CodeBatch,
    planner: NegativePlanner,
    state: PhaseState,
    taxonomy: Taxonomy,
) -> LossInputs:
    """Distances, masks and targets between the anchors and every code of the step.

    Args:
        encoded: points `[code, dim + 1]` and gates `[code, expert]` of the step's unique codes.
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
        curvature=encoded.curvature,
    )
