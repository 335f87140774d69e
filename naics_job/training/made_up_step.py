"""Losses of a step with any numbers of codes, anchors and texts, to measure what they keep."""

from dataclasses import dataclass

import torch
from torch import Tensor

from naics_job.geometry.lorentz import exp_map_origin, pairwise_distance, radius
from naics_job.loss.objective import LossInputs, Objective, TextTargets

DIM = 2  # of points and texts; what the losses keep for a pair does not depend on it
LEVELS = 5
FARTHEST = 10  # edges between two codes


@dataclass(frozen=True)
class MadeUpStep:
    """How many rows a step has.

    Attributes:
        codes: unique ones.
        anchors: with one positive each.
        texts: that are asked.
        columns: codes that a text is compared with.
        dim: of a tangent vector.
    """

    codes: int
    anchors: int
    texts: int
    columns: int
    dim: int = DIM

    def losses(self, objective: Objective, curvature: float) -> dict[str, Tensor]:
        """Every term, from random points; the sizes alone decide what autograd keeps."""
        points, columns, texts = (
            exp_map_origin(torch.randn(rows, self.dim), curvature).requires_grad_()
            for rows in (self.codes, self.columns, self.texts)
        )
        depth = torch.arange(self.codes) % LEVELS + 1
        edges = (torch.arange(self.codes)[:, None] - torch.arange(self.codes)).abs() % FARTHEST
        kept = torch.ones(self.anchors, self.codes, dtype=torch.bool)
        terms: dict[str, Tensor] = objective(
            LossInputs(
                distance=pairwise_distance(points, points, curvature),
                tree_distance=edges.float(),
                anchor=torch.arange(self.anchors) % self.codes,
                positive=(torch.arange(self.anchors) + 1) % self.codes,
                keep=kept,
                attract=kept,
                pair_margin=torch.ones(self.anchors),
                radius=radius(points, curvature),
                depth=depth,
                importance=torch.full((2,), 0.5, requires_grad=True),
                load=torch.full((2,), 0.5),
                texts=self._targets(texts, columns, curvature),
            )
        )
        return terms

    def _targets(self, texts: Tensor, columns: Tensor, curvature: float) -> TextTargets:
        own = torch.randn(self.texts, DIM, requires_grad=True)
        codes = torch.randn(self.columns, DIM)
        return TextTargets(
            distance=pairwise_distance(texts, columns, curvature),
            truth=torch.arange(self.texts) % self.columns,
            log_weight=torch.zeros(self.texts, self.columns),
            shown=torch.ones(self.texts, self.columns, dtype=torch.bool),
            radius=radius(texts, curvature),
            column_radius=radius(columns, curvature),
            student=own @ codes.T,
            teacher=own.detach() @ codes.T,
            taught=torch.ones(self.texts, dtype=torch.bool),
        )
