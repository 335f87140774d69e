"""How much of the gradient each loss term gives, and how much of it each mechanism makes.

Measured where the losses meet the network, at tangent vectors of points and directions of texts:
from there on the gradients of all terms pass through the same parameters, and nothing of the
encoder is computed. Norms at the points themselves would say little: their coordinates grow
exponentially with the radius, and most of a gradient there points off the hyperboloid.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from naics_job.geometry.lorentz import Curvature, exp_map_origin, log_map_origin
from naics_job.loss.objective import TERMS, LossInputs, Objective

CONTRASTIVE = "contrastive"  # the term that the mechanisms act on


class Outputs:
    """What the network gives a step, where gradients are measured; the graph stays as it is.

    Args:
        points: of codes and texts, `[row, dim + 1]`.
        text: directions of texts, `[query, hidden]`.
        curvature: of the points.
    """

    def __init__(self, points: Tensor, text: Tensor, curvature: Curvature) -> None:
        self.points, self.text = points, text
        if isinstance(curvature, Tensor):
            curvature = curvature.detach()
        self._tangent = log_map_origin(points.detach(), curvature).requires_grad_()
        self._image = exp_map_origin(self._tangent, curvature)

    def gradient(self, term: Tensor) -> Tensor | None:
        """Gradient of `term` by tangent vectors and directions `[value]`, None if it reads none."""
        at = [values for values in (self.points, self.text) if values.requires_grad]
        if not at or not term.requires_grad:
            return None
        parts = torch.autograd.grad(term, at, retain_graph=True, allow_unused=True)
        if all(part is None for part in parts):
            return None
        found = []
        for values, part in zip(at, parts, strict=True):
            full = torch.zeros_like(values) if part is None else part
            found.append((self._pulled(full) if values is self.points else full).flatten())
        return torch.cat(found)

    def _pulled(self, gradient: Tensor) -> Tensor:
        """Gradient by the tangent vectors `[row, dim]` from that by the points."""
        return torch.autograd.grad(self._image, self._tangent, gradient, retain_graph=True)[0]


def term_shares(gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Norm of each term's weighted gradient, as a share of the sum of these norms.

    Args:
        gradients: `[value]` of each term times its weight.
    """
    norms = {name: values.norm() for name, values in gradients.items()}
    if not norms:
        return {}
    total = torch.stack(list(norms.values())).sum()
    return {name: _ratio(norm, total) for name, norm in norms.items()}


def mechanism_shares(whole: Tensor, without: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    """By how much a gradient changes without each mechanism, as a share of its norm.

    Args:
        whole: the gradient `[value]`.
        without: the same without the mechanism of that name; None where nothing is left.
    """
    norm = whole.norm()
    return {
        name: _ratio((whole - (0.0 if other is None else other)).norm(), norm)
        for name, other in without.items()
    }


def gradient_shares(
    objective: Objective,
    inputs: LossInputs,
    terms: Mapping[str, Tensor],
    log_weights: Mapping[str, Tensor],
    at: Outputs,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Shares of the terms and of the mechanisms of one step, scalars by name.

    A term that does not move points or texts, as `load_balance`, is not among them.

    Args:
        objective: the terms and their weights.
        inputs: what they were computed from.
        terms: before their weights, as `objective` returned them.
        log_weights: `[query, column]` of the wrong answers without each mechanism, by its name.
        at: what the network gave.
    """
    measured = {name: at.gradient(terms[name] * w) for name, w in objective.weights.items()}
    found = {name: values for name, values in measured.items() if values is not None}
    if CONTRASTIVE not in found:
        return term_shares(found), {}
    weight = objective.weights[CONTRASTIVE]
    others = contrastive_without(objective, inputs, log_weights)
    without = {name: at.gradient(term * weight) for name, term in others.items()}
    return term_shares(found), mechanism_shares(found[CONTRASTIVE], without)


def contrastive_without(
    objective: Objective, inputs: LossInputs, log_weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The contrastive term with other weights of the wrong answers, and without its margin."""
    term = objective.terms[CONTRASTIVE]
    distance, truth, log_weight, margin = TERMS[CONTRASTIVE].arguments(inputs, objective)
    found = {name: term(distance, truth, other, margin) for name, other in log_weights.items()}
    if objective.config.base_margin > 0:
        found["margin"] = term(
            distance, truth, log_weight, torch.zeros_like(torch.as_tensor(margin))
        )
    return found


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """`part / whole`, and 0 of nothing."""
    return torch.where(whole > 0, part / whole, torch.zeros_like(part))
