"""Features to points: where it starts, what is dropped, what is learned."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from naics_job.config.model_schema import LossConfig, ModelConfig
from naics_job.geometry.lorentz import on_manifold_error
from naics_job.model.embedder import START_SCALE, NaicsEmbedder, drop_channels
from naics_job.model.noise import RowNoise, StepNoise


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Features of 20 codes, channels missing at random, each code with its title."""
    generator = torch.Generator().manual_seed(2)
    present = torch.rand(20, 4, generator=generator) < 0.6
    present[:, 0] = True
    features = torch.randn(20, 4, 32, generator=generator)
    return features * present[..., None], present


def noise(num_rows: int, step: int = 0) -> RowNoise:
    return StepNoise.of(step).of_rows(torch.arange(num_rows))


def build(model: ModelConfig, loss: LossConfig) -> NaicsEmbedder:
    torch.manual_seed(4)
    return NaicsEmbedder(model, loss, hidden_size=32)


def test_starts_as_the_mean_direction_of_present_channels(
    model_config: ModelConfig, loss_config: LossConfig, batch: tuple[Tensor, Tensor]
) -> None:
    features, present = batch
    encoded = build(model_config, loss_config)(features, present)
    for row in range(20):
        unit = [features[row, c] / features[row, c].norm() for c in range(4) if present[row, c]]
        torch.testing.assert_close(encoded.tangent[row], START_SCALE * torch.stack(unit).mean(0))
    torch.testing.assert_close(encoded.radius, encoded.tangent.norm(dim=1), rtol=1e-4, atol=1e-5)
    assert encoded.points.shape == (20, 33)
    assert encoded.points.dtype == torch.float32
    assert on_manifold_error(encoded.points, 1.0).max() < 1e-4


def test_features_of_missing_channels_do_not_matter(
    model_config: ModelConfig, loss_config: LossConfig, batch: tuple[Tensor, Tensor]
) -> None:
    features, present = batch
    embedder = build(model_config, loss_config)
    torch.nn.init.normal_(embedder.experts.out)
    noise = torch.where(present[..., None], features, torch.randn_like(features))
    torch.testing.assert_close(embedder(noise, present).points, embedder(features, present).points)


def test_channel_weights_are_shared_by_the_present_channels(
    model_config: ModelConfig, loss_config: LossConfig, batch: tuple[Tensor, Tensor]
) -> None:
    features, present = batch
    embedder = build(model_config, loss_config)
    with torch.no_grad():
        embedder.channel_logits.copy_(torch.tensor([0.0, 1.0, -1.0, 2.0]))
    tangent = embedder(features, present).tangent
    for row in range(20):
        own = present[row].nonzero()[:, 0]
        weight = embedder.channel_logits[own].softmax(0)
        unit = features[row, own] / features[row, own].norm(dim=1, keepdim=True)
        torch.testing.assert_close(tangent[row], START_SCALE * (weight @ unit))
    nothing = embedder(features[:1], torch.zeros(1, 4, dtype=torch.bool))
    assert not nothing.tangent.any()
    assert nothing.points.isfinite().all()


def test_centred_channels_have_their_mean_at_the_origin(
    model_config: ModelConfig, loss_config: LossConfig, batch: tuple[Tensor, Tensor]
) -> None:
    features, _ = batch
    features = features + 1.0
    everything = torch.ones(20, 4, dtype=torch.bool)
    embedder = build(model_config, loss_config)
    before = embedder(features, everything).tangent.mean(0).norm()
    embedder.center(features, everything)
    after = embedder(features, everything).tangent.mean(0).norm()
    assert before > 0.5
    assert after < 1e-5


@pytest.mark.parametrize("dim", [16, 48])
def test_other_size_starts_as_a_fixed_projection_that_keeps_angles(
    model_config: ModelConfig, loss_config: LossConfig, batch: tuple[Tensor, Tensor], dim: int
) -> None:
    config = replace(model_config, embedding_dim=dim)
    one = build(config, loss_config)
    torch.manual_seed(99)
    other = NaicsEmbedder(config, loss_config, hidden_size=32)
    assert torch.equal(one.maps, other.maps)
    start = one.maps[0].detach()
    gram = start @ start.T if dim < 32 else start.T @ start
    torch.testing.assert_close(gram, torch.eye(min(dim, 32)), rtol=0, atol=1e-5)
    assert one(*batch).points.shape == (20, dim + 1)


def test_every_parameter_learns_and_gradients_are_finite(
    model_config: ModelConfig, loss_config: LossConfig, batch: tuple[Tensor, Tensor]
) -> None:
    embedder = build(model_config, replace(loss_config, learn_curvature=True))
    torch.nn.init.normal_(embedder.experts.out)
    torch.nn.init.normal_(embedder.experts.router.linear.weight)
    encoded = embedder(*batch)
    (encoded.points * torch.randn_like(encoded.points)).sum().backward()
    for name, parameter in embedder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if "out_bias" not in name:
            assert parameter.grad.abs().max() > 0, name


def test_channel_dropout_never_takes_the_last_channel() -> None:
    torch.manual_seed(0)
    present = torch.rand(4000, 4) < 0.5
    present[:, 1] = True
    kept = drop_channels(present, 0.6, noise(4000))
    assert not (kept & ~present).any()
    assert kept.any(1).all()
    several = present.sum(1) == 4
    share = kept[several].float().mean()
    # 0.4 survive, plus one of four wherever all four were dropped (0.6 ** 4 of the codes)
    assert abs(share - (0.4 + 0.6**4 / 4)) < 0.02
    assert torch.equal(drop_channels(present, 0.0, noise(4000)), present)
    assert not torch.equal(drop_channels(present, 0.6, noise(4000, step=1)), kept)
    rows = torch.randperm(4000)[:70]
    assert torch.equal(drop_channels(present[rows], 0.6, noise(4000).at(rows)), kept[rows])
    alone = torch.eye(4, dtype=torch.bool)
    assert torch.equal(drop_channels(alone, 0.99, noise(4)), alone)


@pytest.mark.parametrize("key", ["channel_dropout", "feature_dropout", "moe"])
def test_dropout_acts_in_training_only_and_follows_step_and_row(
    model_config: ModelConfig, loss_config: LossConfig, batch: tuple[Tensor, Tensor], key: str
) -> None:
    value = replace(model_config.moe, dropout=0.5) if key == "moe" else 0.5
    embedder = build(replace(model_config, **{key: value}), loss_config)
    torch.nn.init.normal_(embedder.experts.out)
    first = embedder.train()(*batch, noise(20)).points
    assert torch.equal(embedder(*batch, noise(20)).points, first)
    assert not torch.equal(embedder(*batch, noise(20, step=1)).points, first)
    for rows in torch.randperm(20).tensor_split(3):  # as processes share them
        part = embedder(*(tensor[rows] for tensor in batch), noise(20).at(rows)).points
        torch.testing.assert_close(part, first[rows], rtol=1e-5, atol=1e-4)
    with pytest.raises(AssertionError, match="noise of the step"):
        embedder(*batch)
    assert torch.equal(embedder.eval()(*batch).points, embedder(*batch, noise(20)).points)


def test_points_are_float32_under_autocast(
    model_config: ModelConfig, loss_config: LossConfig, batch: tuple[Tensor, Tensor]
) -> None:
    embedder = build(model_config, loss_config)
    with torch.autocast("cpu", torch.bfloat16):
        encoded = embedder(*batch)
    for value in (encoded.points, encoded.tangent, encoded.radius, encoded.gates):
        assert value.dtype == torch.float32
    assert on_manifold_error(encoded.points, 1.0).max() < 1e-4


def test_learned_curvature_starts_at_the_setting_and_stays_near(
    model_config: ModelConfig, loss_config: LossConfig
) -> None:
    fixed = build(model_config, replace(loss_config, curvature=0.5))
    assert fixed.curvature == fixed.curvature_value() == 0.5
    assert "log_curvature" not in dict(fixed.named_parameters())
    learned = build(model_config, replace(loss_config, curvature=0.5, learn_curvature=True))
    assert learned.curvature_value() == pytest.approx(0.5)
    assert learned.log_curvature is not None
    with torch.no_grad():
        learned.log_curvature.fill_(50.0)
    assert learned.curvature_value() == pytest.approx(5.0)
