"""The objective: which terms count, what they weigh, and how a broken one ends the step."""

import copy
import math
import pickle
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from naics_job.config.load import load_config
from naics_job.config.model_schema import FalseNegativesConfig
from naics_job.errors import ConfigError
from naics_job.loss.attract import AttractionLoss
from naics_job.loss.contrastive import DecoupledContrastiveLoss
from naics_job.loss.distillation import DistillationLoss
from naics_job.loss.hierarchy import HierarchyLoss
from naics_job.loss.load_balance import LoadBalanceLoss
from naics_job.loss.margins import adaptive_margin
from naics_job.loss.objective import (
    TERMS,
    LossInputs,
    NonFiniteLossError,
    Objective,
    TextTargets,
)
from naics_job.loss.rank_order import LambdaRankLoss
from naics_job.loss.text_contrastive import TextContrastiveLoss

CONFIG = replace(
    load_config().config.loss,
    contrastive_weight=0.8,
    hierarchy_weight=0.9,
    rank_order_weight=0.3,
    code_contrastive_weight=0.6,
    distillation_weight=0.4,
    radius_reg_weight=0.1,
    load_balancing_coef=0.01,
)
WEIGHTS = {
    "contrastive": 0.8,
    "code_contrastive": 0.6,
    "distillation": 0.4,
    "hierarchy": 0.9,
    "rank_order": 0.3,
    "radius": 0.1,
    "load_balance": 0.01,
    "attract": 0.7,
}
HYBRID = FalseNegativesConfig(strategy="hybrid", attract_weight=0.7)
ELIMINATE = FalseNegativesConfig(strategy="eliminate", attract_weight=0.7)


def step_inputs() -> LossInputs:
    """Nine codes, of which four are anchors, and three texts beside six codes."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int, scale: float = 5.0) -> Tensor:
        return scale * torch.rand(*shape, generator=generator)

    tree = torch.randint(1, 11, (9, 9), generator=generator).float().triu(1)
    tree = tree + tree.T
    anchor = torch.tensor([0, 3, 4, 8])
    keep = tree[anchor] > 2
    wrong = random(3, 6, scale=1.0).log()
    wrong[:, 4] = -torch.inf
    texts = TextTargets(
        distance=random(3, 6).requires_grad_(),
        truth=torch.tensor([0, 5, 2]),
        log_weight=wrong,
        shown=torch.ones(3, 6, dtype=torch.bool),
        radius=random(3),
        column_radius=random(6),
        student=random(3, 6, scale=0.1).requires_grad_(),
        teacher=random(3, 6, scale=0.1),
        taught=torch.tensor([True, False, True]),
    )
    return LossInputs(
        distance=random(9, 9).requires_grad_(),
        tree_distance=tree,
        anchor=anchor,
        positive=torch.tensor([1, 2, 3, 4]),
        keep=keep,
        attract=tree[anchor] == tree[0, 1],
        pair_margin=torch.tensor([1.0, 1.0, 0.5, 0.25]),
        radius=random(9, scale=3.0).requires_grad_(),
        depth=torch.randint(1, 6, (9,), generator=generator),
        importance=torch.tensor([0.4, 0.3, 0.2, 0.1], requires_grad=True),
        load=torch.tensor([9.0, 5.0, 3.0, 1.0]),
        texts=texts,
    )


def test_total_is_the_weighted_sum_of_the_terms() -> None:
    inputs = step_inputs()
    objective = Objective(CONFIG, HYBRID)
    terms = objective(inputs)
    assert set(terms) == set(TERMS) | {"total"}
    assert objective.weights == WEIGHTS
    expected = sum(WEIGHTS[name] * terms[name].item() for name in TERMS)
    assert terms["total"].item() == pytest.approx(expected, rel=1e-5)
    terms["total"].backward()
    texts = inputs.texts
    for leaf in (inputs.distance, texts.distance, texts.student, inputs.radius, inputs.importance):
        assert leaf.grad is not None
        assert bool(torch.isfinite(leaf.grad).all())
        assert leaf.grad.abs().sum() > 0


def test_each_term_reads_what_is_its_own() -> None:
    """Against the terms themselves, called by hand."""
    inputs, texts = step_inputs(), step_inputs().texts
    terms = Objective(CONFIG, HYBRID)(inputs)
    off = torch.zeros(3)
    margin = adaptive_margin(texts.radius, texts.column_radius, off, CONFIG.base_margin)
    found = TextContrastiveLoss(CONFIG)(texts.distance, texts.truth, texts.log_weight, margin)
    assert terms["contrastive"].item() == pytest.approx(found.item())
    rows, radius = inputs.distance[inputs.anchor], inputs.radius
    margin = adaptive_margin(radius[inputs.anchor], radius, inputs.pair_margin, CONFIG.base_margin)
    pull = torch.stack([rows[n, column] for n, column in enumerate((1, 2, 3, 4))])
    found = DecoupledContrastiveLoss(CONFIG)(pull, rows, inputs.keep, margin)
    assert terms["code_contrastive"].item() == pytest.approx(found.item())
    others = ~torch.eye(9, dtype=torch.bool)  # the tree is told of all codes of the step
    found = LambdaRankLoss(CONFIG)(inputs.distance, inputs.tree_distance, others)
    assert terms["rank_order"].item() == pytest.approx(found.item())
    found = HierarchyLoss()(inputs.distance, inputs.tree_distance, others)
    assert terms["hierarchy"].item() == pytest.approx(found.item())
    found = DistillationLoss()(texts.student, texts.teacher, texts.shown, texts.taught)
    assert terms["distillation"].item() == pytest.approx(found.item())
    found = AttractionLoss()(rows, inputs.attract)
    assert terms["attract"].item() == pytest.approx(found.item())


@pytest.mark.parametrize(
    ("setting", "term"),
    [
        ("contrastive_weight", "contrastive"),
        ("code_contrastive_weight", "code_contrastive"),
        ("distillation_weight", "distillation"),
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


def test_temperatures_and_margin_reach_the_terms() -> None:
    def changed(**settings: float) -> set[str]:
        terms = Objective(replace(CONFIG, **settings), ELIMINATE)(step_inputs())
        return {
            name for name, value in terms.items() if value.item() != pytest.approx(first[name])
        } - {"total"}

    first = {k: v.item() for k, v in Objective(CONFIG, ELIMINATE)(step_inputs()).items()}
    assert changed(temperature=0.4) == {"contrastive"}
    assert changed(code_temperature=0.9) == {"code_contrastive"}
    assert changed(rank_temperature=0.6) == {"rank_order"}
    assert changed(base_margin=1.0) == {"contrastive", "code_contrastive"}


def test_mask_hides_from_the_push_of_codes_alone() -> None:
    inputs = step_inputs()
    hidden = replace(inputs, keep=torch.zeros_like(inputs.keep))
    objective = Objective(CONFIG, ELIMINATE)
    with_push, without = objective(inputs), objective(hidden)
    assert without["code_contrastive"].item() == 0
    assert with_push["code_contrastive"].item() != 0
    for name in ("contrastive", "hierarchy", "rank_order"):
        assert without[name].item() == with_push[name].item()


def test_the_radius_follows_the_learned_edge_and_does_not_move_it() -> None:
    objective = Objective(CONFIG, ELIMINATE)
    hierarchy = objective.terms["hierarchy"]
    assert isinstance(hierarchy, HierarchyLoss)
    with torch.no_grad():
        hierarchy.log_scale.fill_(0.5)
    inputs = step_inputs()
    found = objective(inputs)["radius"]
    edge = math.exp(0.5)
    expected = (inputs.radius - edge * inputs.depth).square().mean()
    assert found.item() == pytest.approx(expected.item())
    found.backward()
    assert hierarchy.log_scale.grad is None
    alone = Objective(replace(CONFIG, hierarchy_weight=0.0), ELIMINATE)
    assert alone.edge == 1.0


@pytest.mark.parametrize(
    ("field", "term"),
    [
        ("distance", "code_contrastive"),  # the first of those that read it
        ("radius", "radius"),
        ("importance", "load_balance"),
        ("texts.distance", "contrastive"),
        ("texts.radius", "contrastive"),
        ("texts.student", "distillation"),
    ],
)
def test_a_broken_term_ends_the_step_and_is_named(field: str, term: str) -> None:
    inputs = step_inputs()
    name = field.rpartition(".")[2]
    of: LossInputs | TextTargets = inputs.texts if "." in field else inputs
    broken = getattr(of, name).detach().clone()
    broken.view(-1)[5 % broken.numel()] = torch.nan
    # the margins read the radius too, so the radius term is broken alone only without them
    weights = {"code_contrastive_weight": 0.0} if field == "radius" else {}
    objective = Objective(replace(CONFIG, **weights), ELIMINATE)
    changed = replace(of, **{name: broken})
    broken_inputs = changed if isinstance(changed, LossInputs) else replace(inputs, texts=changed)
    with pytest.raises(NonFiniteLossError, match=f"loss term {term} is") as caught:
        objective(broken_inputs)
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
    texts = step_inputs().texts
    margin = adaptive_margin(texts.radius, texts.column_radius, torch.zeros(3), CONFIG.base_margin)
    expected = margin[:, [0, 1, 2, 3, 5]].mean()  # column 4 is no wrong answer
    assert found["margin"].item() == pytest.approx(expected.item())
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
