"""What autograd keeps, and the estimate made of it."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from naics_job.config.load import load_config
from naics_job.config.schema import Config
from naics_job.data.prepare import load_dataset, prepare_all
from naics_job.model.embedder import NaicsEmbedder, Sizes
from naics_job.model.weights import BaseWeights
from naics_job.training.memory_model import (
    MemoryModel,
    measure_model,
    pair_bytes,
    row_bytes,
    saved_bytes,
)
from naics_job.training.memory_probe import Stepper
from naics_job.training.step_load import (
    StepLoad,
    StepLoads,
    loads_from_data,
    loads_from_settings,
)
from naics_job.training.unencoded import unencoded_inputs
from tests.support.tiny_bert import TINY, make_wordy

TOKENS = [
    f"data_loader.tokenization.max_tokens.{name}=24"
    for name in ("title", "description", "examples", "excluded")
]
SIZES = ["model.tree_dim=16", "model.lexical_dim=8"]
MANY = 100_000  # tokens; far above one block, so that the working space no longer grows


@pytest.fixture(scope="module")
def base(tiny_folder: Path) -> BaseWeights:
    return BaseWeights(tiny_folder, "folder", "0" * 64)


def settings(*overrides: str) -> Config:
    return load_config(overrides=[*TOKENS, *SIZES, *overrides]).config


def counts(num_codes: int = 50, num_texts: int = 400) -> StepLoads:
    loads = loads_from_settings(settings())
    return replace(loads, num_codes=num_codes, num_texts=num_texts)


def measured(base: BaseWeights, *overrides: str, half: bool = False) -> MemoryModel:
    return measure_model(settings(*overrides), base, counts(), half=half, processes=1)


def load(tokens: int = MANY, anchors: int = 8, texts: int = 32, codes: int = 40) -> StepLoad:
    return StepLoad(8, anchors, texts, codes, tokens, blocks=4)


def test_each_storage_counts_once_and_weights_do_not() -> None:
    x = torch.ones(10, requires_grad=True)
    weight = torch.ones(10, requires_grad=True)

    def action() -> torch.Tensor:
        y = x * weight  # keeps x and weight
        z = y.exp()  # keeps its result, 40 bytes
        return z * z.view(2, 5).reshape(10)  # keeps the same storage twice

    assert saved_bytes(action, [weight, x]) == 40
    assert saved_bytes(action, [weight]) == 80


def test_the_estimate_is_linear_in_the_tokens_encoded_at_once(base: BaseWeights) -> None:
    model = measured(base)
    steps = [model.estimate(load(MANY * n)) for n in (1, 2, 3)]
    assert steps[1] - steps[0] == pytest.approx(steps[2] - steps[1], rel=1e-6)
    assert steps[1] - steps[0] == pytest.approx(model.token * MANY, rel=1e-6)


def test_texts_are_compared_with_every_code_and_codes_with_each_other(base: BaseWeights) -> None:
    model = measured(base)
    texts = [model.estimate(load(texts=n)) for n in (32, 64)]
    assert texts[1] - texts[0] == pytest.approx(32 * (model.row + 50 * model.pair.text), abs=2)
    codes = [model.estimate(load(codes=n, anchors=0)) for n in (20, 40)]
    expected = 20 * model.row + (40**2 - 20**2) * model.pair.codes
    assert codes[1] - codes[0] == pytest.approx(expected, abs=2)
    anchors = [model.estimate(load(anchors=n)) for n in (8, 16)]
    assert anchors[1] - anchors[0] == pytest.approx(8 * 40 * model.pair.anchor, abs=2)


def test_pairs_keep_what_their_loss_terms_need() -> None:
    """Ranking keeps ten rows of each code's list, the others a few numbers per pair."""
    both = "loss.code_contrastive_weight=0.3"  # of codes against codes, which is off by default
    whole = pair_bytes(settings(both), 56)
    unranked = pair_bytes(settings(both, "loss.rank_order_weight=0"), 56)
    assert whole.codes - unranked.codes > 2 * 10 * 4
    assert unranked.codes > 4
    silent = pair_bytes(
        settings(both, "loss.contrastive_weight=0", "loss.distillation_weight=0"), 56
    )
    assert silent.text > 4  # the distances are there all the same
    assert whole.text - silent.text > 2 * 4 * 4
    wide = pair_bytes(settings(both), 156)
    assert wide.column - whole.column >= 2 * 100 * 4  # the points of every code, in work and kept
    assert wide.text == whole.text
    alone = pair_bytes(settings(), 56)
    assert whole.anchor > 4
    assert alone.anchor == pytest.approx(0, abs=4)


def test_a_row_keeps_its_channels_and_more_with_wider_experts(base: BaseWeights) -> None:
    config = settings()

    def row(*overrides: str) -> float:
        chosen = settings(*overrides)
        return row_bytes(NaicsEmbedder(chosen.model, chosen.loss, Sizes(32, 64, 5, 40)).train(), 32)

    assert row() > 4 * (4 * 32 + 4 * config.model.tree_dim)  # features and mapped channels
    wider = row("model.moe.hidden_dim=512") - row("model.moe.hidden_dim=256")
    assert wider >= config.model.moe.top_k * 256 * 4


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


def test_the_estimate_covers_what_real_steps_keep(tiny_folder: Path, tmp_path: Path) -> None:
    """Autograd keeps at least a third of it, and never more; the rest is space to work in."""
    folder = make_wordy(tiny_folder, tmp_path / "base")
    places = [f"dirs.data_dir={tmp_path}/data", f"model.base_model_name={folder}"]
    sectors = ["data.max_codes=null", "data.sectors=[11,21,22,23]"]
    config = load_config(None, "smoke", [*places, *TINY, *sectors]).config
    prepare_all(config)
    weights = BaseWeights(folder, "folder", "0" * 64)
    inputs = unencoded_inputs(config, load_dataset(config), weights)
    loads = loads_from_data(config, inputs)
    model = measure_model(config, weights, loads, half=False, processes=1)
    stepper = Stepper(config, inputs, torch.device("cpu"))
    features = vars(stepper.module.step_encoder.features).values()
    known = [*stepper.module.parameters(), *stepper.module.buffers(), *features]
    for size in (4, 16, 64):
        step = loads.of(size, size)
        kept = saved_bytes(partial(stepper.loss, step, 0), known)
        assert kept < model.estimate(step) - model.fixed.total < 3 * kept


def test_fixed_bytes_of_the_tiny_model(base: BaseWeights) -> None:
    config = settings("model.lora.r=4")
    fixed = measure_model(config, base, counts(), half=False, processes=1).fixed
    adapter = 2 * 2 * (4 * 32 + 32 * 4)  # layers, query and value, both factors
    assert fixed.gradients > 4 * adapter
    assert fixed.optimizer == 2 * fixed.gradients
    shared = measure_model(config, base, counts(), half=False, processes=2).fixed
    assert shared.gradients == 2 * fixed.gradients
    assert replace(fixed, context=0).total == fixed.total - fixed.context
    wider = settings("model.lora.r=4", "model.lexical_dim=108")
    more = measure_model(wider, base, counts(), half=False, processes=1).fixed
    assert more.weights - fixed.weights == 100 * 2 * 64  # the table of words, in 16 bits
    assert more.gradients == fixed.gradients


def test_cached_features_are_of_every_text(base: BaseWeights) -> None:
    """A point has 32 + 8 + 16 + 1 values; a code also has its text direction and 4 gates."""

    def features(num_codes: int, num_texts: int) -> int:
        made = counts(num_codes, num_texts)
        return measure_model(settings(), base, made, half=False, processes=1).fixed.features

    assert features(50, 500) - features(50, 400) == 100 * 32 * 4
    assert features(51, 400) - features(50, 400) == (32 + 57 + 4) * 4
