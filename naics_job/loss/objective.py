"""The training objective: which terms there are and what each weighs."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from naics_job.config.model_schema import FalseNegativesConfig, LossConfig
from naics_job.errors import ConfigError, NaicsJobError
from naics_job.loss.attract import AttractionLoss
from naics_job.loss.contrastive import DecoupledContrastiveLoss
from naics_job.loss.distillation import DistillationLoss
from naics_job.loss.hierarchy import HierarchyLoss
from naics_job.loss.load_balance import LoadBalanceLoss
from naics_job.loss.margins import adaptive_margin
from naics_job.loss.radius import RadiusLoss
from naics_job.loss.rank_order import LambdaRankLoss
from naics_job.loss.text_contrastive import TextContrastiveLoss


class NonFiniteLossError(NaicsJobError):
    """A loss term is infinite or not a number; `term` names it."""

    def __init__(self, message: str, hint: str = "", term: str = "") -> None:
        super().__init__(message, hint)
        self.term = term

    def __reduce__(self) -> tuple[type["NonFiniteLossError"], tuple[str, str, str]]:  # type: ignore[override]
        return type(self), (str(self.args[0]), self.hint, self.term)


@dataclass(frozen=True)
class LossInputs:
    """What the terms of one step need; distances are geodesic, in units of 1 / sqrt(c)."""

    distance: Tensor  # [code, code] between the codes of the step
    tree_distance: Tensor  # [code, code] edges
    anchor: Tensor  # [batch] int64, rows of `distance`
    positive: Tensor  # [batch] int64, the positive's column in `distance`
    keep: Tensor  # [batch, code] bool, the codes that are negatives of the anchor
    attract: Tensor  # [batch, code] bool, suspected false negatives to pull in
    pair_margin: Tensor  # [batch] 1 / tree distance of anchor and positive
    radius: Tensor  # [code] distance from the origin
    depth: Tensor  # [code] edges from the root of the tree
    importance: Tensor  # [expert] gate probability over the global batch
    load: Tensor  # [expert] codes sent to each expert over the global batch
    texts: "TextTargets"


@dataclass(frozen=True)
class TextTargets:
    """The texts of a step against all codes that they may mean."""

    distance: Tensor  # [query, column]
    truth: Tensor  # [query] int64, the right code's column
    log_weight: Tensor  # [query, column] of wrong answers, -inf for what is none
    shown: Tensor  # [query, column] bool, the codes of the level that is asked for
    radius: Tensor  # [query] distance from the origin
    column_radius: Tensor  # [column]
    student: Tensor  # [query, column] cosines of the adapted encoder
    teacher: Tensor  # [query, column] cosines of the frozen encoder
    taught: Tensor  # [query] bool, not the user's own texts


@dataclass(frozen=True)
class Term:
    """One line of the objective."""

    weight: Callable[[LossConfig, FalseNegativesConfig], float]
    build: Callable[[LossConfig], nn.Module]
    arguments: Callable[[LossInputs, "Objective"], tuple[Tensor | float, ...]]


def _contrastive(inputs: LossInputs, objective: "Objective") -> tuple[Tensor, ...]:
    texts = inputs.texts
    return texts.distance, texts.truth, texts.log_weight, _text_margin(inputs, objective.config)


def _code_contrastive(inputs: LossInputs, objective: "Objective") -> tuple[Tensor, ...]:
    distance = inputs.distance[inputs.anchor]  # [batch, code]
    pull = distance.gather(1, inputs.positive[:, None]).squeeze(1)  # [batch]
    return pull, distance, inputs.keep, _margin(inputs, objective.config)


def _tree(inputs: LossInputs, _: "Objective") -> tuple[Tensor, ...]:
    # The tree is known for every pair, so what the mask hides from the push counts here as well.
    return inputs.distance, inputs.tree_distance, inputs.tree_distance > 0


TERMS = {
    "contrastive": Term(lambda loss, _: loss.contrastive_weight, TextContrastiveLoss, _contrastive),
    "code_contrastive": Term(
        lambda loss, _: loss.code_contrastive_weight, DecoupledContrastiveLoss, _code_contrastive
    ),
    "distillation": Term(
        lambda loss, _: loss.distillation_weight,
        lambda _: DistillationLoss(),
        lambda inputs, _: (
            inputs.texts.student,
            inputs.texts.teacher,
            inputs.texts.shown,
            inputs.texts.taught,
        ),
    ),
    "hierarchy": Term(lambda loss, _: loss.hierarchy_weight, lambda _: HierarchyLoss(), _tree),
    "rank_order": Term(lambda loss, _: loss.rank_order_weight, LambdaRankLoss, _tree),
    "radius": Term(
        lambda loss, _: loss.radius_reg_weight,
        lambda _: RadiusLoss(),
        lambda inputs, objective: (inputs.radius, inputs.depth, objective.edge),
    ),
    "load_balance": Term(
        lambda loss, _: loss.load_balancing_coef,
        lambda _: LoadBalanceLoss(),
        lambda inputs, _: (inputs.importance, inputs.load),
    ),
    "attract": Term(
        lambda _, negatives: 0.0 if negatives.strategy == "eliminate" else negatives.attract_weight,
        lambda _: AttractionLoss(),
        lambda inputs, _: (inputs.distance[inputs.anchor], inputs.attract),
    ),
}


class Objective(nn.Module):
    """Weighted sum of the loss terms; a term of weight 0 is not built and has no parameters.

    Raises:
        ConfigError: every weight is 0.
    """

    def __init__(self, config: LossConfig, false_negatives: FalseNegativesConfig) -> None:
        super().__init__()
        self.config = config
        weights = {name: term.weight(config, false_negatives) for name, term in TERMS.items()}
        self.weights = {name: weight for name, weight in weights.items() if weight > 0}
        if not self.weights:
            raise ConfigError(
                "every loss term has weight 0", "set loss.hierarchy_weight or another above 0"
            )
        self.terms = nn.ModuleDict({name: TERMS[name].build(config) for name in self.weights})

    @property
    def edge(self) -> Tensor | float:
        """Geodesic distance that stands for one edge of the tree; 1 without the hierarchy term."""
        if "hierarchy" not in self.terms:
            return 1.0
        hierarchy = self.terms["hierarchy"]
        assert isinstance(hierarchy, HierarchyLoss)
        return hierarchy.scale

    def forward(self, inputs: LossInputs) -> dict[str, Tensor]:
        """Each term before its weight, and their weighted sum "total".

        Raises:
            NonFiniteLossError: a term is not finite; the first such term is named.
        """
        terms: dict[str, Tensor] = {
            name: term(*TERMS[name].arguments(inputs, self)) for name, term in self.terms.items()
        }
        _require_finite(terms)
        weighted = [weight * terms[name] for name, weight in self.weights.items()]
        return {**terms, "total": torch.stack(weighted).sum()}

    @torch.no_grad()
    def statistics(self, inputs: LossInputs) -> dict[str, Tensor]:
        """Numbers worth a log line: the mean margin of wrong answers and the learned edge."""
        kept = inputs.texts.log_weight > -torch.inf
        margin = _text_margin(inputs, self.config).masked_fill(~kept, 0.0)
        mean = margin.sum() / kept.sum().clamp_min(1)
        return {"margin": mean, "edge": torch.as_tensor(self.edge)}


def _margin(inputs: LossInputs, config: LossConfig) -> Tensor:
    radii = inputs.radius[inputs.anchor], inputs.radius
    return adaptive_margin(*radii, inputs.pair_margin, config.base_margin)


def _text_margin(inputs: LossInputs, config: LossConfig) -> Tensor:
    texts = inputs.texts
    none = torch.zeros_like(texts.radius)  # a text and its code are no pair of the tree
    return adaptive_margin(texts.radius, texts.column_radius, none, config.base_margin)


def _require_finite(terms: dict[str, Tensor]) -> None:
    finite = torch.isfinite(torch.stack([term.detach() for term in terms.values()]))
    if bool(finite.all()):  # the one wait for the device per step
        return
    name = next(name for name, good in zip(terms, finite.tolist(), strict=True) if not good)
    raise NonFiniteLossError(
        f"the loss term {name} is {terms[name].item()}",
        "lower training.learning_rate, or use training.trainer.precision=32-true",
        name,
    )
