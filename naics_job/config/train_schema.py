"""Settings of the curriculum, optimiser, trainer and checkpoints. Values: conf/config.yaml."""

from dataclasses import dataclass
from typing import Any

from naics_job.config.checks import require, require_choice, require_finite, require_share
from naics_job.config.model_schema import AnnealConfig
from naics_job.config.trainer import check_trainer

SHORTENING = ("fast_dev_run", "overfit_batches", "limit_train_batches")


@dataclass(frozen=True, kw_only=True)
class CurriculumConfig:
    """The Structure-Aware Dynamic Curriculum (SADC)."""

    phase_mode: str  # three_phase | two_phase
    phase1_end: float
    phase2_end: float
    phase3_end: float
    rescale: bool
    tree_distance_alpha: float
    sibling_distance_threshold: int
    exclusion_share: float
    router_mix_ratio: float
    anneal: AnnealConfig
    fn_curriculum_start_epoch: int | None  # None: no clusters, phase 3 is as phase 2
    fn_cluster_every_n_epochs: int
    fn_num_clusters: int
    fn_max_iterations: int

    @property
    def clusters(self) -> bool:
        """Whether phase 3 clusters codes at all."""
        return self.fn_curriculum_start_epoch is not None

    def __post_init__(self) -> None:
        require_choice("curriculum.phase_mode", self.phase_mode, ("three_phase", "two_phase"))
        ends = (self.phase1_end, self.phase2_end, self.phase3_end)
        ordered = 0 < ends[0] <= ends[1] <= ends[2] <= 1
        key = "curriculum.phase1_end, phase2_end, phase3_end"
        order = "such that 0 < phase1_end <= phase2_end <= phase3_end <= 1"
        require(ordered, key, ends, order, "set all three, such as 0.3, 0.7 and 1.0")
        require_finite("curriculum.tree_distance_alpha", self.tree_distance_alpha)
        key = "curriculum.sibling_distance_threshold"
        threshold = self.sibling_distance_threshold
        require(0 <= threshold <= 9, key, threshold, "in [0, 9]; 0 masks nobody")
        require_share("curriculum.exclusion_share", self.exclusion_share)
        require_share("curriculum.router_mix_ratio", self.router_mix_ratio)
        if self.fn_curriculum_start_epoch is not None:
            require_finite("curriculum.fn_curriculum_start_epoch", self.fn_curriculum_start_epoch)
        require_finite("curriculum.fn_cluster_every_n_epochs", self.fn_cluster_every_n_epochs, 1)
        require_finite("curriculum.fn_num_clusters", self.fn_num_clusters, 2)
        require_finite("curriculum.fn_max_iterations", self.fn_max_iterations, 1)


@dataclass(frozen=True, kw_only=True)
class EarlyStoppingConfig:
    """Stop when a metric of the evaluation no longer grows."""

    enabled: bool
    metric: str
    patience: int  # evaluations without improvement

    def __post_init__(self) -> None:
        require_finite("training.early_stopping.patience", self.patience, 1)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The optimiser, its schedule, and Lightning's Trainer."""

    learning_rate: float
    scale_learning_rate: float
    lora_learning_rate: float
    weight_decay: float
    warmup_steps: int
    use_warmup_cosine: bool
    min_learning_rate_ratio: float
    early_stopping: EarlyStoppingConfig
    trainer: dict[str, Any]

    def __post_init__(self) -> None:
        require_finite("training.learning_rate", self.learning_rate, inclusive=False)
        require_finite("training.scale_learning_rate", self.scale_learning_rate, inclusive=False)
        require_finite("training.lora_learning_rate", self.lora_learning_rate, inclusive=False)
        require_finite("training.weight_decay", self.weight_decay)
        require_finite("training.warmup_steps", self.warmup_steps)
        require_share("training.min_learning_rate_ratio", self.min_learning_rate_ratio)
        check_trainer(self.trainer)

    @property
    def max_epochs(self) -> int:
        """Most passes over the anchors; -1: `max_steps` alone ends the run."""
        epochs = self.trainer["max_epochs"]
        return -1 if epochs is None else int(epochs)

    @property
    def max_steps(self) -> int:
        """Most optimizer steps; -1: `max_epochs` alone ends the run."""
        return int(self.trainer.get("max_steps", -1))

    @property
    def batch_limit(self) -> tuple[str, int | float] | None:
        """The argument that shortens epochs and its micro-batches (int) or share (float).

        The first one that is set counts, as in Lightning.
        """
        for name in SHORTENING:
            value: bool | int | float | None = self.trainer.get(name)
            if value:
                return name, 1 if value is True else value
        return None

    @property
    def repeats_batches(self) -> bool:
        """Whether every epoch has the batches of the first: `overfit_batches`."""
        return bool(self.trainer.get("overfit_batches"))

    @property
    def accumulate_grad_batches(self) -> int:
        """Micro-batches per optimizer step."""
        return int(self.trainer["accumulate_grad_batches"])


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """How often a run is saved and what is kept."""

    max_lost_steps: int  # optimizer steps
    lease_ttl_s: float
    keep_last: int
    max_failures: int  # failed saves in a row that end the run

    def __post_init__(self) -> None:
        require_finite("checkpoint.max_lost_steps", self.max_lost_steps, 2)
        require_finite("checkpoint.lease_ttl_s", self.lease_ttl_s, 3)
        require_finite("checkpoint.keep_last", self.keep_last, 2)
        require_finite("checkpoint.max_failures", self.max_failures, 1)
