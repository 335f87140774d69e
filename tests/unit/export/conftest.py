"""A tiny model as training leaves it, and its export."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from naics_job.config.load import load_config
from naics_job.config.schema import Config
from naics_job.data.query_tokens import QueryTokenizer
from naics_job.data.tokens import load_tokenizer
from naics_job.export.card import ModelCard, card_text
from naics_job.export.ranking import Certainty, SearchCalibration
from naics_job.export.write import Places, TrainedModel, write_export
from naics_job.model.embedder import NaicsEmbedder, Sizes, TextInputs
from naics_job.model.encoder import TextEncoder
from naics_job.model.features import unit
from naics_job.model.weights import BaseWeights
from naics_job.storage.files import Manifest
from naics_job.taxonomy.tree import Taxonomy
from naics_job.training.encoding import query_inputs, query_words

CODES = {
    "11": "w1 w2",
    "111": "w3 w4",
    "1111": "w5 w6",
    "11111": "w7 w8",
    "111111": "w9 w10",
    "111112": "w11 w12 w13",
    "111113": "w14",
    "21": "w15",
    "211": "w15",
    "2111": "w15",
    "21111": "w15",
    "211111": "w15 w16",
}
ITEMS = [("111111", "w20 w21"), ("111112", "w22"), ("111111", "w23 w24"), ("211111", "w25")]
TITLE_TOKENS, MAX_TOKENS = 20, 40
CALIBRATION = SearchCalibration(
    (0.5, 1.0),
    Certainty(((3.0, 0.1), (2.0, 0.0)), ((0.6, 0.3), (1.0, 0.0))),
    Certainty(((3.0, 0.1), (2.0, 0.0)), ((0.6, 0.3), (1.0, 0.0))),
)
MANIFEST = Manifest(
    file="",
    sha256="",
    rows=0,
    schema_version=1,
    source="bundled",
    inputs={"descriptions": "d" * 64},
    config_hash="",
    created_at="",
    extra={"run_id": "run-1"},
)


@dataclass(frozen=True)
class Trained:
    """A model as training leaves it, and its export."""

    config: Config
    model: TrainedModel
    places: Places
    folder: str

    def inputs(self, texts: list[str]) -> TextInputs:
        tokenizer = QueryTokenizer(load_tokenizer(self.model.base.folder)[0], MAX_TOKENS)
        tokens = tokenizer(texts)
        with torch.no_grad():
            features = unit(self.model.encoder(tokens))
        words = query_words(self.model.embedder, tokens, features.device)
        return query_inputs(features, words, tokens.lengths, TITLE_TOKENS)

    def embed(self, texts: list[str]) -> np.ndarray:
        with torch.no_grad():
            points: np.ndarray = self.model.embedder(self.inputs(texts)).points.numpy()
        return points

    def write(self, folder: str, places: Places | None = None) -> str:
        write_export(folder, self.model, places or self.places, MANIFEST, "# card")
        return folder


@pytest.fixture(scope="session")
def trained(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    root = tmp_path_factory.mktemp("export")
    overrides = [f"dirs.output_dir={root}/outputs", f"dirs.data_dir={root}/data"]
    overrides += [
        "model.tree_dim=16",
        "model.lexical_dim=8",
        f"model.base_model_name={tiny_folder}",
    ]
    config = load_config(None, "smoke", [*overrides, "experiment_name=tiny"]).config
    torch.manual_seed(0)
    base = BaseWeights(tiny_folder, "folder", "0" * 64)
    encoder = TextEncoder(base, config.model).eval()
    embedder = NaicsEmbedder(
        config.model, config.loss, Sizes(encoder.hidden_size, 64, 5, 10)
    ).eval()
    with torch.no_grad():
        for _, parameter in [*encoder.lora_parameters(), *embedder.named_parameters()]:
            parameter.add_(torch.randn(parameter.shape), alpha=0.1)
        embedder.lexical.table.copy_(torch.randn(64, 8))
        embedder.lexical.idf.copy_(torch.rand(64) + 1)
        embedder.lexical.idf[:4] = 0  # special tokens
        embedder.query_gates.word.copy_(torch.tensor([0.5, 0.25]))
        embedder.query_gates.tree.copy_(torch.tensor([0.2, 0.4]))
        embedder.query_gates.confidence_weight.fill_(0.3)
    taxonomy = Taxonomy.from_codes(list(CODES), list(CODES.values()))
    leaves = taxonomy.six_digit()
    model = TrainedModel(encoder, embedder, base, "tiny", MAX_TOKENS, TITLE_TOKENS)
    places = Places(
        taxonomy=taxonomy,
        points=torch.zeros(0),
        items=torch.zeros(0),
        item_codes=[taxonomy.position(code) for code, _ in ITEMS],
        item_texts=[text for _, text in ITEMS],
        documents=[CODES[taxonomy.codes[leaf]] for leaf in leaves],
        curvature=1.0,
        calibration=CALIBRATION,
    )
    folder = f"{config.dirs.output_dir}/{config.experiment_name}"
    made = Trained(config, model, places, folder)
    points, items = (
        torch.from_numpy(made.embed(texts))
        for texts in (list(CODES.values()), [text for _, text in ITEMS])
    )
    made = replace(made, places=replace(places, points=points, items=items))
    card = ModelCard("run-1", "tiny", "bundled", "d" * 64, 1.0, {}, {}, 0)
    write_export(folder, model, made.places, MANIFEST, card_text(card, "tiny", base))
    return made
