"""The root of the configuration. Its sections: data_schema.py, model_schema.py, train_schema.py,
launch_schema.py, metrics_schema.py."""

import re
from dataclasses import dataclass

from naics_job.config.checks import require
from naics_job.config.data_schema import (
    DataConfig,
    DataLoaderConfig,
    DirsConfig,
    SamplingConfig,
    StorageConfig,
)
from naics_job.config.launch_schema import LaunchConfig
from naics_job.config.metrics_schema import MetricsConfig
from naics_job.config.model_schema import FalseNegativesConfig, LossConfig, ModelConfig
from naics_job.config.train_schema import CheckpointConfig, CurriculumConfig, TrainingConfig

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything a run can be told. Constructed by `config.load` only."""

    experiment_name: str
    seed: int
    dirs: DirsConfig
    data: DataConfig
    data_loader: DataLoaderConfig
    sampling: SamplingConfig
    model: ModelConfig
    loss: LossConfig
    curriculum: CurriculumConfig
    false_negatives: FalseNegativesConfig
    training: TrainingConfig
    checkpoint: CheckpointConfig
    launch: LaunchConfig
    metrics: MetricsConfig
    storage: StorageConfig

    def __post_init__(self) -> None:
        good = NAME.fullmatch(self.experiment_name) is not None
        expected = "made of letters, digits, '.', '_' and '-', at most 100 of them"
        require(good, "experiment_name", self.experiment_name, expected)
        require(0 <= self.seed < 2**32, "seed", self.seed, "in [0, 2**32)")
