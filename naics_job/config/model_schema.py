"""Settings of the network and its losses: types, units and ranges. Values: conf/config.yaml."""

import re
from dataclasses import dataclass

from naics_job.config.checks import require, require_choice, require_finite, require_share


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Low-rank adapters of the encoder (Hu et al. 2021, arXiv:2106.09685)."""

    r: int
    alpha: int
    dropout: float
    target_modules: tuple[str, ...]
    start_phase: int | None  # first SADC phase in which the adapters train; null: none
    interpolation: tuple[float, ...]  # shares of the trained adapter that are tried at the end

    def __post_init__(self) -> None:
        require(1 <= self.r <= 512, "model.lora.r", self.r, "in [1, 512]")
        require_finite("model.lora.alpha", self.alpha, inclusive=False)
        require(0 <= self.dropout < 1, "model.lora.dropout", self.dropout, "in [0, 1)")
        targets = self.target_modules
        require(bool(targets), "model.lora.target_modules", targets, "a list of names")
        shares = self.interpolation
        good = bool(shares) and all(0 < share <= 1 for share in shares)
        require(good, "model.lora.interpolation", shares, "a list of numbers in (0, 1]")
        key = "model.lora.start_phase"
        require(self.start_phase in (None, 1, 2, 3), key, self.start_phase, "1, 2, 3 or null")


@dataclass(frozen=True, kw_only=True)
class MoeConfig:
    """Mixture of experts over the concatenated channels."""

    num_experts: int
    top_k: int
    hidden_dim: int
    dropout: float
    balance_rate: float  # step of the bias that steers codes to idle experts; 0: none

    def __post_init__(self) -> None:
        require(0 <= self.dropout < 1, "model.moe.dropout", self.dropout, "in [0, 1)")
        require_finite("model.moe.balance_rate", self.balance_rate)
        require_finite("model.moe.num_experts", self.num_experts, 1)
        expected = f"in [1, {self.num_experts}] (model.moe.num_experts)"
        require(1 <= self.top_k <= self.num_experts, "model.moe.top_k", self.top_k, expected)
        require_finite("model.moe.hidden_dim", self.hidden_dim, 1)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The encoder, the experts and the size of the embedding."""

    base_model_name: str  # hub id, folder, fsspec URL, or wheel://PACKAGE
    base_model_sha256: str | None  # of model.safetensors
    tree_dim: int  # of the part of a point that says where in the tree a code stands
    lexical_dim: int  # of the part that holds its words; 0: none
    labelled_weight: float  # of the user's texts of a code against its title
    channel_dropout: float
    example_dropout: float  # share of a code's index items hidden in a step
    feature_dropout: float
    offset_dropout: float  # share of codes that stand without their own offset in a step; 1: none
    gradient_checkpointing: bool
    encoder_precision: str  # float32 | bfloat16 | auto
    eval_every_n_epochs: int
    lora: LoraConfig
    moe: MoeConfig

    def __post_init__(self) -> None:
        name = self.base_model_name
        require(bool(name.strip()), "model.base_model_name", name, "at least one character")
        if self.base_model_sha256 is not None:
            good = re.fullmatch(r"[0-9a-f]{64}", self.base_model_sha256) is not None
            expected = "64 lower-case hexadecimal digits"
            require(good, "model.base_model_sha256", self.base_model_sha256, expected)
        require_finite("model.tree_dim", self.tree_dim, 2)
        require_finite("model.lexical_dim", self.lexical_dim)
        require_finite("model.labelled_weight", self.labelled_weight)
        for key in ("channel_dropout", "example_dropout", "feature_dropout"):
            value = getattr(self, key)
            require(0 <= value < 1, f"model.{key}", value, "in [0, 1)")
        require_share("model.offset_dropout", self.offset_dropout)
        precisions = ("float32", "bfloat16", "auto")
        require_choice("model.encoder_precision", self.encoder_precision, precisions)
        require_finite("model.eval_every_n_epochs", self.eval_every_n_epochs, 1)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights and shapes of the loss terms."""

    temperature: float  # divides distances in the softmax of texts over codes
    contrastive_weight: float  # of texts against codes
    code_temperature: float  # the same for codes against codes
    code_contrastive_weight: float
    distillation_weight: float
    curvature: float  # c > 0; sectional curvature is -c
    learn_curvature: bool
    base_margin: float
    hierarchy_weight: float
    rank_order_weight: float
    rank_temperature: float  # divides differences of distances in the ranking term
    radius_reg_weight: float
    load_balancing_coef: float

    def __post_init__(self) -> None:
        for key in ("temperature", "code_temperature", "rank_temperature"):
            value = getattr(self, key)
            require(0 < value <= 10, f"loss.{key}", value, "in (0, 10]")
        require(0 < self.curvature <= 100, "loss.curvature", self.curvature, "in (0, 100]")
        for key in (
            "base_margin",
            "contrastive_weight",
            "code_contrastive_weight",
            "distillation_weight",
            "hierarchy_weight",
            "rank_order_weight",
            "radius_reg_weight",
            "load_balancing_coef",
        ):
            require_finite(f"loss.{key}", getattr(self, key))


@dataclass(frozen=True, kw_only=True)
class FalseNegativesConfig:
    """What becomes of a negative that shares the anchor's cluster in phase 3."""

    strategy: str  # eliminate | attract | hybrid
    attract_weight: float

    def __post_init__(self) -> None:
        known = self.strategy in ("eliminate", "attract", "hybrid")
        expected = "one of eliminate, attract, hybrid"
        require(known, "false_negatives.strategy", self.strategy, expected)
        require_finite("false_negatives.attract_weight", self.attract_weight)


@dataclass(frozen=True, kw_only=True)
class AnnealConfig:
    """Scalars that move within a phase."""

    shape: str  # linear | cosine
    hard_share_start: float
    hard_share_end: float
    tree_distance_alpha_end: float

    def __post_init__(self) -> None:
        known = self.shape in ("linear", "cosine")
        require(known, "curriculum.anneal.shape", self.shape, "one of linear, cosine")
        require_share("curriculum.anneal.hard_share_start", self.hard_share_start)
        require_share("curriculum.anneal.hard_share_end", self.hard_share_end)
        key = "curriculum.anneal.tree_distance_alpha_end"
        require_finite(key, self.tree_distance_alpha_end)
