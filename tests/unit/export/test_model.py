"""An export on its own: it places texts as the trained model does, and is refused when damaged."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from naics_job.errors import DataError
from naics_job.export import query_graph
from naics_job.export.model import load_model
from naics_job.export.onnx_export import GraphError
from naics_job.export.search import SearchIndex

SHORT, LONG = "w5 w6 w7 unknown", " ".join(f"w{n}" for n in range(30))
USED = [
    "embeddings.parquet",
    "items.parquet",
    "naics.json",
    *(f"model/{name}" for name in ("encoder.onnx", "query.onnx", "lexical.safetensors")),
    "model/tokenizer.json",
]


def test_an_export_embeds_as_the_trained_model_does(trained: Any, tmp_path: Path) -> None:
    model = load_model(trained.folder, tmp_path)
    texts = ["w1", SHORT, LONG, " ".join(f"w{n}" for n in range(200))]
    exported = model.embed(texts)
    np.testing.assert_allclose(exported, trained.embed(texts), rtol=1e-4, atol=1e-4)
    assert np.abs(exported[0] - exported[1]).max() > 0.1
    assert model.place(model.tokenizer(texts)).long.tolist() == [False, False, True, True]


def test_a_remote_export_is_fetched_once(trained: Any, tmp_path: Path) -> None:
    url = trained.write("memory://exports/tiny")
    points = load_model(url, tmp_path).embed([SHORT])
    fetched = sorted(path.name for path in tmp_path.iterdir())
    assert len(fetched) == 4
    np.testing.assert_array_equal(load_model(url, tmp_path).embed([SHORT]), points)
    assert sorted(path.name for path in tmp_path.iterdir()) == fetched
    assert SearchIndex(url, tmp_path).search(SHORT, 1) == SearchIndex(
        trained.folder, tmp_path
    ).search(SHORT, 1)


@pytest.mark.parametrize("file", USED)
@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing"])
def test_a_damaged_export_is_refused(trained: Any, tmp_path: Path, file: str, damage: str) -> None:
    path = Path(trained.write(str(tmp_path / "tiny"))) / file
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[0 if file == "naics.json" else len(content) // 2] ^= 255
    path.write_bytes(content[: len(content) // 2] if damage == "truncated" else content)
    if damage == "missing":
        path.unlink()
    with pytest.raises(DataError, match="tiny") as error:
        SearchIndex(str(tmp_path / "tiny"), tmp_path / "cache")
    assert "--ckpt-path last" in error.value.hint


def _without(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda settings: settings.pop(key)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda settings: settings.update(version=2), "version 2"),
        (_without("curvature"), "curvature"),
        (_without("version"), "version"),
        (lambda settings: settings.update(curvature=-1.0), "curvature is -1.0"),
        (lambda settings: settings.update(other=1), "other"),
        (lambda settings: settings["calibration"]["plain"].update(slope=[[1.0, 2.0]]), "kinds"),
        (
            lambda settings: settings["calibration"]["lexical"].update(first_answer=[[1.0, 2.0]]),
            "kinds",
        ),
        (lambda settings: settings["calibration"].pop("item_weight"), "item_weight"),
        (lambda settings: settings["calibration"].pop("lexical"), "lexical"),
        (lambda settings: settings["calibration"]["plain"].pop("first_answer"), "first_answer"),
    ],
)
def test_settings_of_another_version_are_refused(
    trained: Any, tmp_path: Path, change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    path = Path(trained.write(str(tmp_path / "tiny"))) / "naics.json"
    settings = json.loads(path.read_text())
    change(settings)
    path.write_text(json.dumps(settings))
    with pytest.raises(DataError, match=reason) as error:
        load_model(str(tmp_path / "tiny"), tmp_path)
    assert "--ckpt-path last" in error.value.hint


def test_a_head_that_differs_is_not_exported(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(trained.write(str(tmp_path / "tiny")))
    right = query_graph.DenseExperts.forward

    def wrong(self: Any, *given: Any) -> Any:
        mixture = right(self, *given)
        return replace(mixture, output=mixture.output + 0.1)

    monkeypatch.setattr(query_graph.DenseExperts, "forward", wrong)
    with pytest.raises(GraphError, match="head differs"):
        trained.write(str(folder))
    monkeypatch.undo()
    assert load_model(str(folder), tmp_path).embed([SHORT]).shape == (1, 57)  # the old one is whole


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_transformers_read_the_merged_encoder(trained: Any) -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = f"{trained.folder}/model"
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    given = tokenizer([SHORT], return_tensors="pt")
    with torch.no_grad():
        pooled = model.eval()(given["input_ids"]).last_hidden_state.mean(1)
    expected = trained.inputs([SHORT]).text
    torch.testing.assert_close(torch.nn.functional.normalize(pooled), expected)


def test_sentence_transformers_would_pool_by_the_mean(trained: Any) -> None:
    folder = Path(trained.folder) / "model"
    kinds = [module["type"] for module in json.loads((folder / "modules.json").read_text())]
    assert [kind.rpartition(".")[2] for kind in kinds] == ["Transformer", "Pooling"]
    pooling = json.loads((folder / "1_Pooling" / "config.json").read_text())
    assert pooling["word_embedding_dimension"] == 32
    assert [key for key, value in pooling.items() if value is True] == ["pooling_mode_mean_tokens"]


def test_settings_name_every_file(trained: Any) -> None:
    folder = Path(trained.folder)
    files = set(json.loads((folder / "naics.json").read_text())["files"])
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    unnamed = {"naics.json", "README.md", "embeddings.parquet.manifest.json"}
    assert there - files == unnamed
    assert files <= there
