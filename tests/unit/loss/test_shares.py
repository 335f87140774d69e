"""Shares in the gradient, on graphs whose norms are known."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from naics_job.config.load import load_config
from naics_job.config.model_schema import FalseNegativesConfig
from naics_job.geometry.lorentz import exp_map_origin, log_map_origin
from naics_job.loss.objective import LossInputs, Objective, TextTargets
from naics_job.loss.shares import Outputs, gradient_shares, mechanism_shares, term_shares

LOSS = replace(load_config().config.loss, contrastive_weight=2.0, base_margin=0.2)
NOTHING = FalseNegativesConfig(strategy="eliminate", attract_weight=0.0)


def values(shares: dict[str, Tensor]) -> dict[str, float]:
    return {name: share.item() for name, share in shares.items()}


def test_shares_of_terms_go_by_the_norms_of_their_gradients() -> None:
    points = exp_map_origin(torch.tensor([[2.0, 1.0]]), 0.5).requires_grad_()
    text = torch.ones(1, requires_grad=True)
    five = (torch.tensor([3.0, 4.0]) * log_map_origin(points, 0.5)).sum()
    terms = {"long": five, "both": 12 * text.sum() + five, "none": 0.0 * five}
    at = Outputs(points, text, 0.5)
    found = {name: at.gradient(term) for name, term in terms.items()}
    shares = values(term_shares({name: g for name, g in found.items() if g is not None}))
    assert shares == pytest.approx({"long": 5 / 18, "both": 13 / 18, "none": 0.0})
    assert points.grad is None


def test_what_moves_nothing_has_no_gradient() -> None:
    points, gate = torch.ones(1, 2, requires_grad=True), torch.ones(2, requires_grad=True)
    at = Outputs(points, torch.ones(1), 1.0)
    assert at.gradient(gate.sum()) is None
    assert at.gradient(torch.ones(())) is None
    assert at.gradient(points.sum()) is not None
    assert Outputs(points.detach(), torch.ones(1), 1.0).gradient(points.sum()) is None


def test_without_any_gradient_there_are_no_shares() -> None:
    assert term_shares({}) == {}
    assert values(term_shares({"a": torch.zeros(3)})) == {"a": 0.0}
    assert values(mechanism_shares(torch.zeros(3), {"a": torch.zeros(3)})) == {"a": 0.0}


def test_a_mechanism_has_what_changes_without_it() -> None:
    whole = torch.tensor([3.0, 4.0])
    without = {"idle": whole.clone(), "half": torch.tensor([3.0, 1.5]), "all": None}
    assert values(mechanism_shares(whole, without)) == pytest.approx(
        {"idle": 0.0, "half": 0.5, "all": 1.0}
    )


def step(points: Tensor, text: Tensor) -> LossInputs:
    """Three codes and two texts, at distances that follow from `points` `[5, 2]`, all made up."""
    between = torch.cdist(points, points)
    radius = points.norm(dim=1)
    allowed = torch.tensor([[0.0, -torch.inf, 1.0, 0.5], [0.0, 0.5, -torch.inf, 1.0]])
    hidden = torch.eye(2, 4) > 0
    texts = TextTargets(
        distance=torch.cdist(points[3:], torch.arange(8.0).view(4, 2) / 20),
        truth=torch.tensor([0, 1]),
        log_weight=allowed.masked_fill(hidden, -torch.inf),
        shown=torch.ones(2, 4, dtype=torch.bool),
        radius=radius[3:],
        column_radius=torch.arange(4.0),
        student=text @ torch.eye(2, 4),
        teacher=torch.eye(2) @ torch.eye(2, 4),
        taught=torch.ones(2, dtype=torch.bool),
    )
    codes = between[:3, :3]
    return LossInputs(
        distance=codes,
        tree_distance=torch.tensor([[0.0, 1, 2], [1, 0, 3], [2, 3, 0]]),
        anchor=torch.tensor([0]),
        positive=torch.tensor([1]),
        keep=torch.tensor([[False, False, True]]),
        attract=torch.zeros(1, 3, dtype=torch.bool),
        pair_margin=torch.ones(1),
        radius=radius[:3],
        depth=torch.tensor([1, 2, 3]),
        importance=torch.full((2,), 0.5, requires_grad=True),
        load=torch.full((2,), 0.5),
        texts=texts,
    )


def leaves() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    points = exp_map_origin(torch.randn(5, 1, generator=generator), 1.0)
    return points.requires_grad_(), torch.randn(2, 2, generator=generator).requires_grad_()


def test_every_term_that_moves_points_or_texts_has_a_share() -> None:
    at = leaves()
    inputs, objective = step(*at), Objective(LOSS, NOTHING)
    terms, mechanisms = gradient_shares(objective, inputs, objective(inputs), {}, Outputs(*at, 1.0))
    assert set(terms) == set(objective.weights) - {"load_balance"}
    assert sum(values(terms).values()) == pytest.approx(1.0)
    assert all(share > 0 for share in values(terms).values())
    assert set(mechanisms) == {"margin"}
    assert mechanisms["margin"] > 0


def test_a_term_of_weight_zero_has_no_share() -> None:
    at = leaves()
    inputs = step(*at)
    objective = Objective(replace(LOSS, contrastive_weight=0.0), NOTHING)
    terms, mechanisms = gradient_shares(objective, inputs, objective(inputs), {}, Outputs(*at, 1.0))
    assert "contrastive" not in terms
    assert mechanisms == {}


def test_the_weight_of_a_term_counts() -> None:
    at = leaves()
    inputs = step(*at)
    found = []
    for weight in (1.0, 3.0):
        objective = Objective(replace(LOSS, contrastive_weight=weight), NOTHING)
        share = gradient_shares(objective, inputs, objective(inputs), {}, Outputs(*at, 1.0))[0][
            "contrastive"
        ]
        found.append((share / (1 - share)).item())
    assert found[1] == pytest.approx(3 * found[0], rel=1e-4)


def test_a_neutral_mechanism_has_a_share_of_zero() -> None:
    at = leaves()
    inputs, objective = (
        step(*at),
        Objective(replace(LOSS, base_margin=0.0, temperature=0.5), NOTHING),
    )
    own = inputs.texts.log_weight
    without = {"neutral": own.clone(), "acting": torch.where(own > 0.9, own + 2, own)}
    shares = values(
        gradient_shares(objective, inputs, objective(inputs), without, Outputs(*at, 1.0))[1]
    )
    assert shares["neutral"] == 0.0
    assert shares["acting"] > 0.05
    assert "margin" not in shares


def test_the_gradients_of_the_step_stay_what_they_are() -> None:
    found = []
    for measured in (False, True):
        at = leaves()
        inputs, objective = step(*at), Objective(LOSS, NOTHING)
        terms = objective(inputs)
        if measured:
            gradient_shares(
                objective, inputs, terms, {"a": inputs.texts.log_weight}, Outputs(*at, 1.0)
            )
        terms["total"].backward()
        found.append([values.grad for values in (*at, *objective.parameters())])
    for before, after in zip(*found, strict=True):
        torch.testing.assert_close(before, after, rtol=0, atol=0)
