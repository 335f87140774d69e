"""From the encoded codes and texts of a step to what the loss terms read."""

import math

import numpy as np
import torch
from torch import Tensor

from naics_job.curriculum.plan import NegativePlanner
from naics_job.curriculum.schedule import PhaseState
from naics_job.data.batch import CodeBatch
from naics_job.data.query_pool import QueryDraw
from naics_job.data.sampler import step_rng
from naics_job.geometry.lorentz import pairwise_distance, radius
from naics_job.loss.objective import LossInputs, TextTargets
from naics_job.taxonomy.tree import Taxonomy
from naics_job.training.encoding import EncodedStep


def loss_inputs(
    encoded: EncodedStep,
    asked: QueryDraw,
    batch: CodeBatch,
    planner: NegativePlanner,
    state: PhaseState,
    taxonomy: Taxonomy,
    code_text: Tensor,
) -> LossInputs:
    """Distances, masks and targets between the codes of the step, and of its texts.

    Args:
        encoded: the step's unique codes and its texts.
        asked: the codes that the texts ask for.
        batch: roles of the codes; `anchor` and `positive` `[batch]` are rows of `encoded.codes`.
        planner: says which encoded codes are negatives of which anchor, after mining.
        state: where the curriculum stands.
        taxonomy: tree distances and depths.
        code_text: directions of the frozen encoder, `[every code, hidden]`.
    """
    own, device = encoded.codes, encoded.codes.points.device
    codes = batch.codes.cpu().numpy()
    anchors = codes[batch.anchor.cpu().numpy()]
    keep = planner.keep(anchors, codes, state)  # [batch, code]
    keep[np.arange(len(anchors)), batch.positive.cpu().numpy()] = False
    attract = planner.attract(anchors, codes, state)  # [batch, code]

    def move(array: np.ndarray, dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device, dtype)

    scale = own.curvature**0.5  # distances in units of 1 / sqrt(c)
    tree = taxonomy.tree_distance(codes, codes)  # [code, code]
    return LossInputs(
        distance=scale * pairwise_distance(own.points, own.points, own.curvature),
        tree_distance=move(tree, torch.float32),
        anchor=batch.anchor,
        positive=batch.positive,
        keep=move(keep, torch.bool),
        attract=move(attract, torch.bool),
        pair_margin=batch.margin,
        radius=scale * own.radius,
        depth=move(taxonomy.depth[codes], torch.long),
        importance=own.importance,
        load=own.load,
        texts=_text_targets(encoded, asked, batch, planner, state, code_text),
    )


def _text_targets(
    encoded: EncodedStep,
    asked: QueryDraw,
    batch: CodeBatch,
    planner: NegativePlanner,
    state: PhaseState,
    code_text: Tensor,
) -> TextTargets:
    """Every code is a column: those of the step with their fresh points, others as remembered."""
    own, texts, bank = encoded.codes, encoded.queries, planner.bank
    device, curvature = own.points.device, own.curvature
    chance = step_rng(planner.seed, batch.epoch, batch.index, "text shares").random(2)
    weights = planner.text_weights(asked.answers, asked.excluders, state, chance)
    log_weight = torch.from_numpy(weights).to(device, torch.float32)  # [query, code]
    answers = torch.from_numpy(asked.answers).to(device)
    # Texts learn where the codes are and do not move them: the codes are what the tree terms make
    # of them, and the lengths of their levels would shrink until every text is near to its code.
    points = bank.points.index_copy(0, batch.codes, own.points.detach())  # [every code, dim + 1]
    scale = curvature**0.5
    depth = torch.from_numpy(planner.sampler.taxonomy.depth.astype(np.int64)).to(device)
    known = bank.filled & bank.allowed
    shown = (depth[answers][:, None] == depth) & known
    shown = shown.scatter(1, answers[:, None], True)
    log_weight = log_weight.masked_fill(~known, -math.inf)
    return TextTargets(
        distance=scale * pairwise_distance(texts.points, points, curvature),
        truth=answers,
        log_weight=log_weight,
        shown=shown,
        radius=scale * texts.radius,
        column_radius=scale * radius(points, curvature),
        student=texts.text @ code_text.T,
        teacher=encoded.frozen_queries @ code_text.T,
        taught=~encoded.labelled,
    )


def global_batch_memory(encoded: EncodedStep, inputs: LossInputs) -> dict[str, float]:
    """What the codes of all processes take on each of them in one step: counts and bytes."""
    own = encoded.codes
    rows = (own.points, own.text, own.gates, own.radius)
    texts = inputs.texts
    pairs = (inputs.distance, inputs.tree_distance, inputs.keep, inputs.attract)
    tables = (*pairs, texts.distance, texts.log_weight, texts.student, texts.teacher)
    return {
        "num_codes": float(len(own.points)),
        "num_pairs": float(inputs.distance.numel()),
        "codes_bytes": float(sum(tensor.nbytes for tensor in rows)),
        "pairs_bytes": float(sum(tensor.nbytes for tensor in tables)),
    }
