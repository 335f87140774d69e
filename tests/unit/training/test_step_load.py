"""How many codes and tokens a step has, from data and without."""

import math

import numpy as np

from naics_job.config.load import load_config
from naics_job.training.step_load import loads_from_settings

SHORT = [f"data_loader.tokenization.max_tokens.{name}=10" for name in ("title", "description")]
LONG = [f"data_loader.tokenization.max_tokens.{name}=20" for name in ("examples", "excluded")]


def test_limits_without_data() -> None:
    """100 codes, 3 + 2 draws per anchor; 60 tokens per code."""
    overrides = [*SHORT, *LONG, "data.max_codes=100", "data_loader.num_negatives=3"]
    loads = loads_from_settings(load_config(overrides=overrides).config)
    one = loads.of(1)
    assert one.codes == math.ceil(100 * (1 - 0.99**5)) == 5
    assert one.tokens == 5 * 60
    assert loads.of(4096).codes == 100
    assert "100 codes of 60 tokens" in loads.source


def test_uniform_draws_are_what_the_formula_says() -> None:
    config = load_config(overrides=["data.max_codes=300", "data_loader.num_negatives=8"]).config
    rng = np.random.default_rng(0)
    drawn = [len(np.unique(rng.integers(0, 300, 16 * 10))) for _ in range(400)]
    assert abs(loads_from_settings(config).of(16).codes - np.mean(drawn)) < 1.5
