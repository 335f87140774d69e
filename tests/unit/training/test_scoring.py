"""Text search scores of a model and of its frozen encoder."""

from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from naics_job.config.load import load_config
from naics_job.data.query_tokens import QueryTokenizer
from naics_job.data.tokens import load_tokenizer
from naics_job.model.embedder import NaicsEmbedder
from naics_job.model.encoder import ChannelEncoder
from naics_job.model.weights import BaseWeights
from naics_job.taxonomy.tree import Taxonomy
from naics_job.training.scoring import embed_queries, search_scores

CODES = ["11", "111", "1111", "11111", "111111", "111112", "111113", "111114"]
LEAVES = [4, 5, 6, 7]
TEXTS = ["w1 w2", "w3 w4", "w5 w6", "w7 w8"]


class Fixture:
    """A job whose codes and queries a test places as it likes."""

    def __init__(self, tiny_folder: Path) -> None:
        overrides = ["model.embedding_dim=32", f"model.base_model_name={tiny_folder}"]
        config = load_config(None, "smoke", overrides).config
        torch.manual_seed(0)
        base = BaseWeights(tiny_folder, "folder", "0" * 64)
        encoder = ChannelEncoder(base, config.model)
        with torch.no_grad():
            for _, parameter in encoder.lora_parameters():
                parameter.add_(torch.randn(parameter.shape), alpha=0.3)
        embedder = NaicsEmbedder(config.model, config.loss, encoder.hidden_size)
        self.module = torch.nn.ModuleDict({"encoder": encoder, "embedder": embedder})
        self.module.encoder, self.module.embedder = encoder, embedder
        limits = asdict(replace(config.data_loader.tokenization.max_tokens, title=20, examples=20))
        data = SimpleNamespace(
            taxonomy=Taxonomy.from_codes(CODES, CODES),
            queries=list(zip(LEAVES, TEXTS, strict=True)),
        )
        self.tokenize = QueryTokenizer(load_tokenizer(tiny_folder)[0], limits)
        queries = SimpleNamespace(tokenize=self.tokenize)
        self.inputs = SimpleNamespace(data=data, queries=queries)
        self.job: Any = SimpleNamespace(inputs=self.inputs, module=self.module)

    def trained(self, texts: list[str]) -> Any:
        """Codes of which the leaves lie where the trained model puts `texts`."""
        self.module.eval()
        module = self.module
        leaves = embed_queries(module.encoder, module.embedder, self.tokenize, texts)
        self.module.train()
        points = torch.cat([leaves[:1].repeat(4, 1), leaves])
        return SimpleNamespace(points=points, curvature=torch.tensor(1.0))

    def frozen(self, texts: list[str]) -> None:
        """Leave frozen features of which those of the leaves are those of `texts`."""
        found, present = self.module.encoder.encode_frozen(self.tokenize(texts))
        self.inputs.features = SimpleNamespace(
            base=torch.cat([found[:1].repeat(4, 1, 1), found]),
            present=torch.cat([present[:1].repeat(4, 1), present]),
        )


@pytest.fixture
def fixture(tiny_folder: Path) -> Fixture:
    return Fixture(tiny_folder)


def test_each_side_is_scored_by_its_own_embedding(fixture: Fixture) -> None:
    swapped = [TEXTS[1], TEXTS[0], *TEXTS[2:]]
    fixture.frozen(swapped)
    trained, frozen = search_scores(fixture.job, fixture.trained(TEXTS))
    assert trained == {"top@1": 1.0, "top@5": 1.0, "mrr": 1.0, "num_queries": 4.0}
    assert frozen["top@1"] == 0.5
    assert frozen["mrr"] < 1
    fixture.frozen(TEXTS)
    trained, frozen = search_scores(fixture.job, fixture.trained(swapped))
    assert (trained["top@1"], frozen["top@1"]) == (0.5, 1.0)


def test_the_module_keeps_its_mode_and_dropout_stays_off(fixture: Fixture) -> None:
    fixture.frozen(TEXTS)
    fixture.module.train()
    assert fixture.module.embedder.channel_dropout > 0
    encoded = fixture.trained(TEXTS)
    assert all(search_scores(fixture.job, encoded)[0]["top@1"] == 1 for _ in range(5))
    assert fixture.module.training
    assert np.isfinite(encoded.points.numpy()).all()


def test_no_queries_no_scores(fixture: Fixture) -> None:
    fixture.frozen(TEXTS)
    encoded = fixture.trained(TEXTS)
    fixture.inputs.data.queries = []
    assert search_scores(fixture.job, encoded) == ({}, {})
