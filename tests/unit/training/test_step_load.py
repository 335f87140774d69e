"""How many texts, codes and tokens a step has, from data and without."""

import math
from pathlib import Path

import numpy as np
import pytest

from naics_job.config.load import load_config
from naics_job.config.schema import Config
from naics_job.data.datamodule import NaicsDataModule
from naics_job.data.prepare import load_dataset, prepare_all
from naics_job.data.query_pool import QuerySampler
from naics_job.data.sampler import AnchorBatch
from naics_job.model.encoder import TextEncoder
from naics_job.model.weights import resolve_base
from naics_job.training.asked import query_draws, texts_per_anchor
from naics_job.training.build import Inputs
from naics_job.training.step_load import (
    loads_from_data,
    loads_from_settings,
)
from naics_job.training.unencoded import unencoded_inputs
from tests.support.tiny_bert import TINY, make_wordy

LIMITS = ["data_loader.tokenization.max_tokens.description=20", "data_loader.queries.per_anchor=3"]


@pytest.fixture(scope="module")
def config(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("loads")
    base = make_wordy(tiny_folder, folder / "base")
    places = [f"dirs.data_dir={folder}/data", f"model.base_model_name={base}"]
    return load_config(None, "smoke", [*places, *TINY]).config


@pytest.fixture(scope="module")
def inputs(config: Config) -> Inputs:
    prepare_all(config)
    return unencoded_inputs(config, load_dataset(config), resolve_base(config.model, Path()))


def test_limits_without_data() -> None:
    """100 codes, 3 + 2 + 3 draws per anchor; 3 texts of 20 tokens per anchor."""
    overrides = [*LIMITS, "data.max_codes=100", "data_loader.num_negatives=3"]
    loads = loads_from_settings(load_config(overrides=overrides).config)
    one = loads.of(1, 1)
    assert one.codes == math.ceil(100 * (1 - 0.99**8)) == 8
    assert (one.texts, one.tokens, one.blocks) == (3, 60, 1)
    some = loads.of(2, 16)  # two anchors at once, in eight micro-batches
    assert (some.texts, some.tokens, some.micro_batches) == (48, 120, 8)
    assert loads.of(4096, 4096).codes == 100
    assert "100 codes, 3 texts per anchor" in loads.source


def test_uniform_draws_are_what_the_formula_says() -> None:
    overrides = ["data.max_codes=300", "data_loader.num_negatives=8"]
    config = load_config(overrides=[*overrides, "data_loader.queries.per_anchor=4"]).config
    rng = np.random.default_rng(0)
    drawn = [len(np.unique(rng.integers(0, 300, 16 * 14))) for _ in range(400)]
    assert abs(loads_from_settings(config).of(16, 16).codes - np.mean(drawn)) < 1.5


@pytest.mark.parametrize(
    ("weights", "expected"), [((1, 0), 3), ((0, 1), 3), ((1, 1), 3), ((0, 0), 0)]
)
def test_no_texts_are_asked_where_no_term_reads_them(
    weights: tuple[int, int], expected: int
) -> None:
    chosen = [f"loss.contrastive_weight={weights[0]}", f"loss.distillation_weight={weights[1]}"]
    assert texts_per_anchor(load_config(overrides=[*LIMITS, *chosen]).config) == expected


def test_a_step_of_data_is_what_the_encoder_is_called_with(
    config: Config, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The padded blocks of a real call, counted as they reach the transformer."""
    load = loads_from_data(config, inputs).of(8, 8)
    seen: list[int] = []
    whole = TextEncoder._encode_block

    def counting(encoder: TextEncoder, ids: np.ndarray, mask: np.ndarray) -> object:
        seen.append(ids.size)
        return whole(encoder, ids, mask)

    monkeypatch.setattr(TextEncoder, "_encode_block", counting)
    found = []
    everything = np.ones(len(inputs.queries.answers), dtype=bool)
    sampler = QuerySampler(inputs.queries, everything, config.data_loader.queries)
    inputs.encoder.eval()
    for index in range(2):
        seen.clear()
        batch = _batch(config, inputs, 8, index)
        asked = sampler.draw(query_draws(config, batch))
        inputs.encoder(inputs.queries.tokens(asked))
        found.append((sum(seen), len(seen)))
    assert (load.tokens, load.blocks) == max(found)
    assert load.texts == 8 * config.data_loader.queries.per_anchor


def test_smaller_micro_batches_encode_less_at_once_in_the_same_step(
    config: Config, inputs: Inputs
) -> None:
    loads = loads_from_data(config, inputs)
    whole, half, single = (loads.of(size, 16) for size in (16, 8, 1))
    assert single.tokens < half.tokens < whole.tokens
    assert {(load.texts, load.anchors) for load in (whole, half, single)} == {(64, 16)}
    assert (whole.micro_batches, half.micro_batches, single.micro_batches) == (1, 2, 16)
    assert loads.of(16, 16).codes <= 60


def test_every_cached_text_is_counted(config: Config, inputs: Inputs) -> None:
    features = inputs.features
    rows = [features.title, features.description, features.item, features.exclusion, features.query]
    assert loads_from_data(config, inputs).num_texts == sum(map(len, rows)) > 2 * 60


def _batch(config: Config, inputs: Inputs, size: int, index: int) -> AnchorBatch:
    module = NaicsDataModule(inputs.data, config, global_batch_size=size)
    return module.dataset[0, index]
