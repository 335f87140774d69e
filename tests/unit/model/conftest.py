"""Settings, encoders and token lists for the tiny BERT."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from naics_job.config.model_schema import LoraConfig, LossConfig, ModelConfig, MoeConfig
from naics_job.data.tokens import Ragged
from naics_job.model.encoder import TextEncoder
from naics_job.model.weights import BaseWeights


@pytest.fixture
def model_config(tiny_folder: Path) -> ModelConfig:
    """Settings of a model on the tiny BERT; no dropout anywhere."""
    lora = {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": ("query", "value")}
    return ModelConfig(
        base_model_name=str(tiny_folder),
        base_model_sha256=None,
        tree_dim=16,
        lexical_dim=8,
        labelled_weight=2.0,
        offset_dropout=0.0,
        channel_dropout=0.0,
        example_dropout=0.0,
        feature_dropout=0.0,
        gradient_checkpointing=False,
        encoder_precision="float32",
        eval_every_n_epochs=1,
        lora=LoraConfig(**lora, start_phase=2, interpolation=(1.0,)),
        moe=MoeConfig(num_experts=4, top_k=2, hidden_dim=16, dropout=0.0, balance_rate=0.002),
    )


@pytest.fixture
def loss_config() -> LossConfig:
    """Loss settings; the model reads the curvature only."""
    values: dict[str, Any] = {field.name: 1.0 for field in fields(LossConfig)}
    return LossConfig(**values | {"learn_curvature": False})


@pytest.fixture
def make_encoder(tiny_folder: Path, model_config: ModelConfig) -> Callable[..., TextEncoder]:
    """Build an encoder of the tiny BERT; the adapter starts at its usual zero."""

    def make(checkpointing: bool = False, dropout: float = 0.0, bf16: bool = False) -> TextEncoder:
        torch.manual_seed(1)
        lora = replace(model_config.lora, dropout=dropout)
        config = replace(model_config, gradient_checkpointing=checkpointing, lora=lora)
        return TextEncoder(BaseWeights(tiny_folder, "folder", "0" * 64), config, bf16)

    return make


@pytest.fixture
def ragged() -> Callable[[list[list[int]]], Ragged]:
    """Token lists as a ragged array."""

    def make(lists: list[list[int]]) -> Ragged:
        ids = np.array([token for tokens in lists for token in tokens], dtype=np.int32)
        return Ragged(ids, np.array([len(tokens) for tokens in lists], dtype=np.int64))

    return make


@pytest.fixture
def step_tokens(ragged: Callable[[list[list[int]]], Ragged]) -> Ragged:
    """Twelve texts, ten of them not empty, eight distinct: short, long, repeated, empty."""

    def text(*words: int) -> list[int]:
        return [2, *(word + 4 for word in words), 3]

    long = text(*range(30))
    titles = [text(i, i + 1) for i in range(3)]
    more = [long, text(5), [], text(5), text(6, 7, 8), long, text(3, 1, 4, 1, 5), [], text(9, 9)]
    return ragged([*titles, *more])
