"""Search on the export of a tiny model."""

import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from naics_job.config.load import load_config
from naics_job.config.schema import Config
from naics_job.data.query_tokens import QUERY_CHANNELS, QueryTokenizer
from naics_job.data.tokens import parse_tokenizer
from naics_job.errors import DataError
from naics_job.export.card import ModelCard
from naics_job.export.embeddings import write_embeddings
from naics_job.export.model import load_model, write_model
from naics_job.export.search import SearchIndex, search
from naics_job.model.embedder import NaicsEmbedder
from naics_job.model.encoder import ChannelEncoder
from naics_job.model.weights import BaseWeights
from naics_job.storage.files import Manifest
from naics_job.taxonomy.tree import Taxonomy
from naics_job.training.scoring import embed_queries

CODES = {
    "11": "w1 w2",
    "111": "w3 w4",
    "1111": "w5 w6",
    "11111": "w7 w8",
    "111111": "w9 w10",
    "111112": "w11 w12 w13",
    "111113": "w14",
}
LIMIT = 20  # tokens of a title
HEAVY = {"torch", "transformers", "peft", "lightning", "openpyxl", "huggingface_hub", "pandas"}


@dataclass(frozen=True)
class Trained:
    """A model as training leaves it, and its export."""

    config: Config
    base: BaseWeights
    encoder: ChannelEncoder
    embedder: NaicsEmbedder
    settings: dict[str, Any]
    card: ModelCard

    @property
    def folder(self) -> str:
        return f"{self.config.dirs.output_dir}/{self.config.experiment_name}"

    @property
    def tokenizer(self) -> QueryTokenizer:
        content = (self.base.folder / "tokenizer.json").read_bytes()
        return QueryTokenizer(parse_tokenizer(content, "", ""), self.settings["max_tokens"])

    def embed(self, texts: list[str]) -> torch.Tensor:
        return embed_queries(self.encoder, self.embedder, self.tokenizer, texts)

    def write(self, folder: str) -> str:
        parts = (self.encoder, self.embedder, self.base, self.settings, self.card)
        return write_model(folder, *parts)


@pytest.fixture(scope="module")
def trained(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    root = tmp_path_factory.mktemp("export")
    config = load_config(
        None,
        "smoke",
        [
            *(f"dirs.output_dir={root}/outputs", f"dirs.data_dir={root}/data"),
            *("model.embedding_dim=32", f"model.base_model_name={tiny_folder}"),
            *("experiment_name=tiny", f"data_loader.tokenization.max_tokens.title={LIMIT}"),
            "data_loader.tokenization.max_tokens.examples=40",
        ],
    ).config
    torch.manual_seed(0)
    base = BaseWeights(tiny_folder, "folder", "0" * 64)
    encoder = ChannelEncoder(base, config.model).eval()
    embedder = NaicsEmbedder(config.model, config.loss, encoder.hidden_size).eval()
    with torch.no_grad():
        for _, parameter in [*encoder.lora_parameters(), *embedder.named_parameters()]:
            parameter.add_(torch.randn(parameter.shape), alpha=0.1)
    max_tokens = asdict(config.data_loader.tokenization.max_tokens)
    settings = {"model": asdict(config.model), "loss": asdict(config.loss)}
    card = ModelCard("run-1", "tiny", "bundled", "d" * 64, 1.0, {}, {}, 0)
    made = Trained(config, base, encoder, embedder, settings | {"max_tokens": max_tokens}, card)
    taxonomy = Taxonomy.from_codes(list(CODES), list(CODES.values()))
    points = made.embed(list(taxonomy.titles))
    manifest = Manifest(
        file="",
        sha256="",
        rows=0,
        schema_version=1,
        source="bundled",
        inputs={},
        config_hash="",
        created_at="",
        extra={"run_id": "run-1"},
    )
    url = f"{made.folder}/embeddings.parquet"
    write_embeddings(url, points, taxonomy, config.loss.curvature, manifest)
    made.write(f"{made.folder}/model")
    return made


def test_an_export_embeds_as_the_trained_model_does(trained: Trained, tmp_path: Path) -> None:
    model = load_model(f"{trained.folder}/model", tmp_path)
    texts = ["w1", "w5 w6 w7 unknown", " ".join(f"w{n}" for n in range(40))]
    exported = torch.from_numpy(model.embed(texts))
    torch.testing.assert_close(exported, trained.embed(texts), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(exported[0], exported[1], atol=0.1)


def test_a_query_is_read_as_title_and_example(trained: Trained) -> None:
    tokens = trained.tokenizer(["w1 w2"])
    assert tuple(tokens) == QUERY_CHANNELS == ("title", "examples")
    features, present = trained.encoder(tokens)
    assert present[0].tolist() == [True, False, True, False]
    expected = trained.embedder(features, present).points
    torch.testing.assert_close(trained.embed(["w1 w2"]), expected)


@pytest.mark.parametrize("code", ["111111", "111112", "111113"])
def test_a_text_that_was_embedded_is_found_at_distance_0(trained: Trained, code: str) -> None:
    first, second, third = search(trained.config, CODES[code], 5)
    assert (first.code, first.title) == (code, CODES[code])
    assert first.distance == pytest.approx(0, abs=1e-3)
    assert 1e-3 < second.distance <= third.distance


def test_more_results_than_codes_give_all_codes_of_the_level(trained: Trained) -> None:
    index = SearchIndex(trained.folder, Path("unused"))
    assert {hit.code for hit in index.search("w9", 1000)} == {"111111", "111112", "111113"}
    assert {hit.code for hit in index.search("w9", 1000, level=None)} == set(CODES)
    assert [hit.code for hit in index.search("w9", 1000, level=2)] == ["11"]
    assert len(index.search("w9", 2)) == 2


def test_a_long_query_counts_up_to_the_limit(trained: Trained) -> None:
    words = [f"w{number % 60}" for number in range(5000)]
    hits = search(trained.config, " ".join(words), 3)
    assert len(hits) == 3
    cut = " ".join(words[:38])  # the longer channel reads 40 tokens, two of them special
    assert hits == search(trained.config, cut, 3)
    assert hits != search(trained.config, " ".join(words[:17]), 3)


@pytest.mark.parametrize("query", ["", "  \t\n"])
def test_an_empty_query_is_refused(trained: Trained, query: str) -> None:
    with pytest.raises(DataError, match="empty") as error:
        search(trained.config, query, 5)
    assert "organic soybean farm" in error.value.hint
    with pytest.raises(DataError, match="has no word"):
        SearchIndex(trained.folder, Path("unused")).search(query, 5)


def test_an_unknown_experiment_is_named(trained: Trained) -> None:
    overrides = ["experiment_name=other", f"dirs.output_dir={trained.config.dirs.output_dir}"]
    with pytest.raises(DataError, match="other holds no embeddings") as error:
        search(load_config(None, None, overrides).config, "w1", 5)
    assert "experiment_name=NAME" in error.value.hint


def test_a_remote_export_is_fetched_once(trained: Trained, tmp_path: Path) -> None:
    url = trained.write("memory://exports/tiny/model")
    for _ in range(2):
        model = load_model(url, tmp_path)
        assert len(list(tmp_path.iterdir())) == 1
    points = torch.from_numpy(model.embed(["w1 w2"]))
    torch.testing.assert_close(points, trained.embed(["w1 w2"]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing"])
def test_a_damaged_export_is_refused(
    trained: Trained, tmp_path: Path, file: str, damage: str
) -> None:
    path = Path(trained.write(str(tmp_path / "model"))) / file
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        middle = len(content) // 2 if file == "model.safetensors" else 0
        content[middle] ^= 255
    path.write_bytes(content[: len(content) // 2] if damage == "truncated" else content)
    if damage == "missing":
        path.unlink()
    with pytest.raises(DataError, match="model"):
        load_model(str(tmp_path / "model"), tmp_path / "cache")


def test_nothing_that_is_slow_to_import_is_needed(trained: Trained) -> None:
    code = f"""
import sys
from naics_job.export.search import SearchIndex
from pathlib import Path
assert SearchIndex({trained.folder!r}, Path("unused")).search("w9 w10", 1)[0].code == "111111"
found = {HEAVY!r} & set(sys.modules)
assert not found, found
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_points_are_those_of_the_table(trained: Trained) -> None:
    index = SearchIndex(trained.folder, Path("unused"))
    assert index.table.points.dtype == np.float32
    expected = trained.embed(list(CODES.values()))
    np.testing.assert_array_equal(index.table.points, expected.numpy())
