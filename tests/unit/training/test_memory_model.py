"""What autograd keeps, and the estimate made of it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from naics_job.config.load import load_config
from naics_job.config.schema import Config
from naics_job.model.weights import BaseWeights
from naics_job.training.memory_model import MemoryModel, measure_model, saved_bytes
from naics_job.training.step_load import StepLoad

TOKENS = [
    f"data_loader.tokenization.max_tokens.{name}=24"
    for name in ("title", "description", "examples", "excluded")
]
MANY = 100_000  # tokens; far above one block, so that the working space no longer grows


@pytest.fixture(scope="module")
def base(tiny_folder: Path) -> BaseWeights:
    return BaseWeights(tiny_folder, "folder", "0" * 64)


def settings(*overrides: str) -> Config:
    return load_config(overrides=[*TOKENS, "model.embedding_dim=32", *overrides]).config


def measured(base: BaseWeights, *overrides: str, half: bool = False) -> MemoryModel:
    return measure_model(settings(*overrides), base, num_codes=50, half=half, processes=1)


def load(tokens: int, batch_size: int = 8, codes: int = 40) -> StepLoad:
    return StepLoad(batch_size, codes, tokens, blocks=4)


def test_each_storage_counts_once_and_weights_do_not() -> None:
    x = torch.ones(10, requires_grad=True)
    weight = torch.ones(10, requires_grad=True)

    def action() -> torch.Tensor:
        y = x * weight  # keeps x and weight
        z = y.exp()  # keeps its result, 40 bytes
        return z * z.view(2, 5).reshape(10)  # keeps the same storage twice

    assert saved_bytes(action, [weight, x]) == 40
    assert saved_bytes(action, [weight]) == 80


def test_the_estimate_is_linear_in_tokens(base: BaseWeights) -> None:
    model = measured(base)
    steps = [model.estimate(load(MANY * n)) for n in (1, 2, 3)]
    assert steps[1] - steps[0] == pytest.approx(steps[2] - steps[1], rel=1e-6)
    assert steps[1] - steps[0] == pytest.approx(model.token * MANY, rel=1e-6)
    pairs = [model.estimate(load(MANY, batch_size=n)) for n in (8, 16, 24)]
    assert pairs[1] - pairs[0] == pytest.approx(pairs[2] - pairs[1], abs=2)
    assert pairs[1] > pairs[0]


def test_bytes_per_token_lie_between_what_a_layer_must_and_can_keep(base: BaseWeights) -> None:
    """2 layers, hidden 32, feed-forward 64: at least query, key, value, context, two norms and
    the feed-forward input; at most three times all activations."""
    least = 2 * 4 * (6 * 32 + 64)
    assert least < measured(base).token < 3 * least


def test_sixteen_bits_keep_less(base: BaseWeights) -> None:
    assert measured(base, half=True).token < 0.8 * measured(base).token


def test_checkpointing_keeps_layer_inputs_only(base: BaseWeights) -> None:
    model = measured(base, "model.gradient_checkpointing=true")
    assert model.token == 2 * 32 * 4
    plain = measured(base)
    kept = [m.estimate(load(10 * MANY)) - m.fixed.total for m in (model, plain)]
    assert kept[0] < kept[1] / 5


def test_fixed_bytes_of_the_tiny_model(base: BaseWeights) -> None:
    config = settings("model.lora.r=4")
    fixed = measure_model(config, base, num_codes=50, half=False, processes=1).fixed
    adapters = 4 * 2 * 2 * (4 * 32 + 32 * 4)  # channels, layers, query and value, both factors
    assert fixed.gradients > 4 * adapters
    assert fixed.optimizer == 2 * fixed.gradients
    shared = measure_model(config, base, num_codes=50, half=False, processes=2).fixed
    assert shared.gradients == 2 * fixed.gradients
    assert replace(fixed, context=0).total == fixed.total - fixed.context
    more = measure_model(config, base, num_codes=100, half=False, processes=1).fixed
    assert more.features == 2 * fixed.features
