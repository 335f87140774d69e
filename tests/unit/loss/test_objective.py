"""The objective: which terms count, what they weigh, and how a broken one ends the step."""

import copy
import pickle
from dataclasses import replace

import pytest
import torch

from naics_job.config.load import load_config
from naics_job.config.model_schema import FalseNegativesConfig
from naics_job.errors import ConfigError
from naics_job.loss.attract import AttractionLoss
from naics_job.loss.load_balance import LoadBalanceLoss
from naics_job.loss.objective import TERMS, LossInputs, NonFiniteLossError, Objective

CONFIG = replace(
    load_config().config.loss,
    contrastive_weight=0.8,
    hierarchy_weight=0.9,
    rank_order_weight=0.3,
    search_weight=0.6,
    radius_reg_weight=0.1,
    load_balancing_coef=0.01,
)
HYBRID = FalseNegativesConfig(strategy="hybrid", attract_weight=0.7)
ELIMINATE = FalseNegativesConfig(strategy="eliminate", attract_weight=0.7)


def step_inputs() -> LossInputs:
    generator = torch.Generator().manual_seed(0)
    tree = torch.randint(1, 11, (4, 9), generator=generator).float()
    tree[:, 0] = 0
    keep = tree > 2
    radius = 3 * torch.rand(9, generator=generator)
    return LossInputs(
        distance=(5 * torch.rand(4, 9, generator=generator)).requires_grad_(),
        tree_distance=tree,
        positive=torch.tensor([1, 2, 3, 4]),
        keep=keep,
        attract=tree == 4,
        pair_margin=torch.tensor([1.0, 1.0, 0.5, 0.25]),
        anchor_radius=radius[:4],
        radius=radius.requires_grad_(),
        depth=torch.randint(1, 6, (9,), generator=generator),
        importance=torch.tensor([0.4, 0.3, 0.2, 0.1], requires_grad=True),
        load=torch.tensor([9.0, 5.0, 3.0, 1.0]),
        query_distance=(5 * torch.rand(3, 6, generator=generator)).requires_grad_(),
        query_truth=torch.tensor([0, 5, 2]),
        curvature=1.0,
    )


def test_total_is_the_weighted_sum_of_the_terms() -> None:
    inputs = step_inputs()
    terms = Objective(CONFIG, HYBRID)(inputs)
    assert set(terms) == set(TERMS) | {"total"}
    weights = dict(zip(TERMS, (0.8, 0.9, 0.3, 0.6, 0.1, 0.01, 0.7), strict=True))
    expected = sum(weights[name] * terms[name].item() for name in TERMS)
    assert terms["total"].item() == pytest.approx(expected, rel=1e-5)
    terms["total"].backward()
    for leaf in (inputs.distance, inputs.query_distance, inputs.radius, inputs.importance):
        assert leaf.grad is not None
        assert bool(torch.isfinite(leaf.grad).all())
        assert leaf.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("setting", "term"),
    [
        ("contrastive_weight", "contrastive"),
        ("hierarchy_weight", "hierarchy"),
        ("rank_order_weight", "rank_order"),
        ("radius_reg_weight", "radius"),
        ("load_balancing_coef", "load_balance"),
    ],
)
def test_a_term_of_weight_zero_is_not_computed(setting: str, term: str) -> None:
    objective = Objective(replace(CONFIG, **{setting: 0.0}), HYBRID)
    terms = objective(step_inputs())
    assert set(terms) == set(TERMS) - {term} | {"total"}
    terms["total"].backward()
    assert all(parameter.grad is not None for parameter in objective.parameters())


def test_an_objective_without_terms_is_refused() -> None:
    names = [name for name in CONFIG.__dataclass_fields__ if name.endswith("_weight")]
    nothing = replace(CONFIG, load_balancing_coef=0.0, **dict.fromkeys(names, 0.0))
    with pytest.raises(ConfigError, match="weight 0"):
        Objective(nothing, ELIMINATE)


def test_only_attract_and_hybrid_attract() -> None:
    attract = replace(HYBRID, strategy="attract")
    assert "attract" in Objective(CONFIG, attract)(step_inputs())
    assert "attract" not in Objective(CONFIG, ELIMINATE)(step_inputs())
    assert "attract" not in Objective(CONFIG, replace(HYBRID, attract_weight=0.0)).weights


def test_temperature_and_margin_reach_the_terms() -> None:
    first = Objective(CONFIG, ELIMINATE)(step_inputs())
    hot = Objective(replace(CONFIG, temperature=0.4), ELIMINATE)(step_inputs())
    soft = Objective(replace(CONFIG, rank_temperature=0.6), ELIMINATE)(step_inputs())
    wide = Objective(replace(CONFIG, base_margin=1.0), ELIMINATE)(step_inputs())
    assert hot["contrastive"].item() != pytest.approx(first["contrastive"].item(), rel=1e-2)
    assert hot["rank_order"].item() == first["rank_order"].item()
    assert soft["rank_order"].item() != pytest.approx(first["rank_order"].item(), rel=1e-2)
    assert soft["contrastive"].item() == first["contrastive"].item()
    assert wide["contrastive"].item() > first["contrastive"].item() + 0.1


def test_mask_hides_from_the_push_alone() -> None:
    inputs = step_inputs()
    hidden = replace(inputs, keep=torch.zeros_like(inputs.keep))
    objective = Objective(CONFIG, ELIMINATE)
    with_push, without = objective(inputs), objective(hidden)
    assert without["contrastive"].item() == 0
    assert without["hierarchy"].item() == with_push["hierarchy"].item()
    assert without["rank_order"].item() == with_push["rank_order"].item()


@pytest.mark.parametrize(
    ("field", "term"),
    [("distance", "contrastive"), ("radius", "radius"), ("importance", "load_balance")],
)
def test_a_broken_term_ends_the_step_and_is_named(field: str, term: str) -> None:
    inputs = step_inputs()
    broken = getattr(inputs, field).detach().clone()
    broken.view(-1)[5 % broken.numel()] = torch.nan
    # the margins read the radius too, so the radius term is broken alone only without them
    weight = 0.0 if field == "radius" else 1.0
    objective = Objective(replace(CONFIG, contrastive_weight=weight), ELIMINATE)
    with pytest.raises(NonFiniteLossError, match=term) as caught:
        objective(replace(inputs, **{field: broken}))
    assert caught.value.exit_code == 70
    assert caught.value.term == term
    assert caught.value.hint
    restored = pickle.loads(pickle.dumps(caught.value))
    assert restored.term == term
    assert str(restored) == str(caught.value)


def test_statistics_report_margin_and_edge() -> None:
    objective = Objective(CONFIG, ELIMINATE)
    found = objective.statistics(step_inputs())
    assert set(found) == {"margin", "edge"}
    assert 0 < found["margin"].item() < 1
    assert found["edge"].item() == 1
    assert not any(value.requires_grad for value in found.values())


def test_objective_can_be_copied_and_pickled() -> None:
    objective = Objective(CONFIG, HYBRID)
    expected = objective(step_inputs())["total"].item()
    assert copy.deepcopy(objective)(step_inputs())["total"].item() == expected
    assert pickle.loads(pickle.dumps(objective))(step_inputs())["total"].item() == expected


def test_load_balance_closed_form_and_direction() -> None:
    loss = LoadBalanceLoss()
    even = torch.full((4,), 0.25)
    assert loss(even, torch.full((4,), 12.0)).item() == pytest.approx(1)
    assert loss(12 * torch.eye(4)[0], torch.eye(4)[0]).item() == pytest.approx(4)
    importance = torch.tensor([0.4, 0.3, 0.2, 0.1], requires_grad=True)
    value = loss(importance, torch.tensor([6.0, 2.0, 1.0, 1.0]))
    assert value.item() == pytest.approx(4 * (0.24 + 0.06 + 0.02 + 0.01))
    value.backward()
    assert importance.grad is not None
    assert importance.grad[0] > 0  # descent takes gate from the crowded expert
    assert importance.grad[3] < 0


def test_attraction_closed_form() -> None:
    loss = AttractionLoss()
    distance = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    value = loss(distance, torch.tensor([[True, False], [False, True]]))
    assert value.item() == pytest.approx(2.5)
    value.backward()
    assert distance.grad is not None
    assert distance.grad.tolist() == [[0.5, 0.0], [0.0, 0.5]]
    assert loss(distance, torch.zeros(2, 2, dtype=torch.bool)).item() == 0
