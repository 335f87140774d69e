"""The embedder without torch against the one with it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from naics_job.config.load import load_config
from naics_job.config.model_schema import LossConfig, ModelConfig
from naics_job.model.embedder import NaicsEmbedder
from naics_job.model.light_embedder import LightEmbedder, embedder_shapes

HIDDEN, CODES = 24, 40


def settings(dim: int = HIDDEN, top_k: int = 2, **loss: Any) -> tuple[ModelConfig, LossConfig]:
    config = load_config(None, "smoke", [f"model.embedding_dim={dim}"]).config
    moe = replace(config.model.moe, num_experts=4, top_k=top_k)
    return replace(config.model, moe=moe), replace(config.loss, **loss)


def awake(model: ModelConfig, loss: LossConfig) -> NaicsEmbedder:
    torch.manual_seed(0)
    embedder = NaicsEmbedder(model, loss, HIDDEN).eval()
    with torch.no_grad():
        for parameter in embedder.parameters():
            parameter.add_(torch.randn(parameter.shape), alpha=0.1)
    return embedder


def arrays(embedder: NaicsEmbedder) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in embedder.state_dict().items()}


@pytest.mark.parametrize("dim", [HIDDEN, 10])
@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize(
    "curvature", [{"curvature": 0.7}, {"learn_curvature": True}, {"curvature": 2.0}], ids=str
)
def test_points_are_those_of_the_embedder(
    dim: int, top_k: int, curvature: dict[str, float | bool]
) -> None:
    model, loss = settings(dim, top_k, **curvature)
    embedder = awake(model, loss)
    features = torch.randn(CODES, 4, HIDDEN)
    present = torch.rand(CODES, 4) < 0.6
    present[0], features[1] = False, 0
    light = LightEmbedder(arrays(embedder), model, loss, HIDDEN)
    with torch.no_grad():
        expected = embedder(features, present)
    assert light.curvature == pytest.approx(embedder.curvature_value(), rel=1e-6)
    points = light(features.numpy(), present.numpy())
    np.testing.assert_allclose(points, expected.points.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("learn", [False, True])
def test_shapes_are_those_of_the_embedder(learn: bool) -> None:
    model, loss = settings(10, 1, learn_curvature=learn)
    found = {name: value.shape for name, value in arrays(awake(model, loss)).items()}
    assert found == embedder_shapes(model, loss, HIDDEN)


@pytest.mark.parametrize("name", ["maps", "log_scale", "experts.out"])
def test_tensors_of_another_model_are_refused(name: str) -> None:
    model, loss = settings()
    tensors = arrays(awake(model, loss))
    tensors[name] = np.zeros((3, 3, 3), dtype=np.float32)
    with pytest.raises(ValueError, match="do not fit"):
        LightEmbedder(tensors, model, loss, HIDDEN)
    del tensors[name]
    with pytest.raises(ValueError, match="do not fit"):
        LightEmbedder(tensors, model, loss, HIDDEN)
