"""An encoder as an ONNX graph, held to the module that it was exported from."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from onnxruntime import InferenceSession
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    MPNetConfig,
    MPNetModel,
    RobertaConfig,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from naics_job.config.model_schema import LoraConfig
from naics_job.errors import ConfigError, DataError
from naics_job.export import onnx_export
from naics_job.export.onnx_encoder import OnnxEncoder
from naics_job.export.onnx_export import GraphError, export_encoder
from naics_job.model.transformer import (
    TextNoise,
    activate,
    adapted_layers,
    adapter_parameters,
    add_adapter,
    load_transformer,
)

HEAVY = {"torch", "transformers", "peft", "onnx", "lightning"}
SIZES = {
    **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
    **{"intermediate_size": 64, "vocab_size": 64, "initializer_range": 0.2},
}
KINDS: dict[str, Callable[[], nn.Module]] = {
    "bert": lambda: BertModel(BertConfig(**SIZES, max_position_embeddings=48)),
    "roberta": lambda: RobertaModel(RobertaConfig(**SIZES, max_position_embeddings=50)),
    "xlm-roberta": lambda: XLMRobertaModel(XLMRobertaConfig(**SIZES, max_position_embeddings=50)),
    "mpnet": lambda: MPNetModel(MPNetConfig(**SIZES, max_position_embeddings=50)),
}
TEXTS = [[2, 9, 3], [2, 3], [], [2, *range(5, 50), 3], [2, 9, 3], [2, 9, 10, 11, 3]]


def pooled(model: Any, ids: list[int]) -> np.ndarray:
    """Mean feature `[hidden]` of one text without padding."""
    with torch.no_grad():
        hidden: Tensor = model(input_ids=torch.tensor([ids])).last_hidden_state
    return hidden[0].mean(0).numpy()


@pytest.fixture(scope="module")
def exported(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "encoder.onnx"
    export_encoder(load_transformer(tiny_folder), path)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_encoder_gives_its_own_features(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = KINDS[kind]().eval()
    export_encoder(model, tmp_path / "encoder.onnx")
    features = OnnxEncoder(tmp_path / "encoder.onnx", num_threads=1)(TEXTS)
    assert features.dtype == np.float32
    assert features.shape == (len(TEXTS), 32)
    for row, ids in enumerate(TEXTS):
        expected = pooled(model, ids) if ids else np.zeros(32)
        np.testing.assert_allclose(features[row], expected, atol=1e-5)
    assert np.abs(features[0] - features[5]).max() > 0.01


def test_the_adapter_that_is_active_is_exported(tiny_folder: Path, tmp_path: Path) -> None:
    model = load_transformer(tiny_folder)
    lora = LoraConfig(
        r=4,
        alpha=8,
        dropout=0.1,
        target_modules=("query", "value"),
        start_phase=2,
        interpolation=(1.0,),
    )
    add_adapter(model, "text", lora, TextNoise())
    torch.manual_seed(0)
    with torch.no_grad():
        for _, parameter in adapter_parameters(model):
            parameter.add_(torch.randn(parameter.shape), alpha=0.1)
    model.train()  # as a run leaves it
    features = []
    for number, active in enumerate((["text"], [])):
        activate(adapted_layers(model), active)
        export_encoder(model, tmp_path / str(number))
        assert model.training
        features.append(OnnxEncoder(tmp_path / str(number))([TEXTS[3]])[0])
        expected = pooled(model.eval(), TEXTS[3])
        np.testing.assert_allclose(features[number], expected, atol=1e-5)
        model.train()
    assert np.abs(features[0] - features[1]).max() > 0.01


def test_blocks_do_not_mix_or_reorder_texts(exported: Path) -> None:
    encoder = OnnxEncoder(exported)
    draw = np.random.default_rng(0)
    texts = [draw.integers(4, 64, draw.integers(1, 48)).tolist() for _ in range(700)]
    features = encoder(texts)  # 17 thousand tokens, so nine blocks or more
    for row in (0, 1, 350, 699):
        np.testing.assert_allclose(features[row], encoder([texts[row]])[0], atol=1e-5)


def test_no_texts_have_no_features(exported: Path) -> None:
    assert OnnxEncoder(exported)([]).shape == (0, 32)
    assert OnnxEncoder(exported)([[], []]).tolist() == np.zeros((2, 32)).tolist()


def test_weights_are_inside_the_one_file(exported: Path) -> None:
    assert [path.name for path in exported.parent.iterdir()] == ["encoder.onnx"]


@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta", "mpnet"])
def test_what_the_mask_hides_has_no_position(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = KINDS[kind]().eval()
    export_encoder(model, tmp_path / "encoder.onnx")
    session = InferenceSession(tmp_path / "encoder.onnx", providers=["CPUExecutionProvider"])
    ids, mask = np.array([[0, 0, 0, *TEXTS[0]]]), np.array([[0, 0, 0, 1, 1, 1]])
    (features,) = session.run(["pooled"], {"ids": ids, "mask": mask})
    np.testing.assert_allclose(features[0], pooled(model, TEXTS[0]), atol=1e-5)


@pytest.mark.parametrize("text", [[2, *[5] * 60, 3], [2, 4000, 3]], ids=["long", "unknown"])
def test_a_text_the_encoder_cannot_read_is_named(exported: Path, text: list[int]) -> None:
    with pytest.raises(DataError, match=f"cannot read a text of {len(text)} tokens") as error:
        OnnxEncoder(exported)([text])
    assert "max_tokens" in error.value.hint


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "text"])
def test_a_damaged_file_is_refused(exported: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "encoder.onnx"
    content = exported.read_bytes()
    made = {"empty": b"", "cut": content[: len(content) // 2], "text": b"no graph at all"}
    if damage != "missing":
        path.write_bytes(made[damage])
    with pytest.raises(DataError, match="missing or damaged") as error:
        OnnxEncoder(path)
    assert "export" in error.value.hint


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_another_graph_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    torch.onnx.export(nn.Linear(3, 2), (torch.ones(1, 3),), path, dynamo=False, opset_version=17)
    with pytest.raises(DataError, match="no exported encoder"):
        OnnxEncoder(path)


class Branching(nn.Module):
    """An encoder that treats long texts in another way, which a trace cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        settings = {"pad_token_id": 0, "vocab_size": 64, "max_position_embeddings": 48}
        self.config = SimpleNamespace(**settings)
        self.table = nn.Embedding(64, 8)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        """Hidden states `[text, token, hidden]`."""
        hidden = self.table(input_ids)
        changed = 2 * hidden if input_ids.shape[1] > 20 else hidden
        return SimpleNamespace(last_hidden_state=changed)


def test_a_graph_that_differs_is_not_written(tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.raises(GraphError, match="differs by"):
        export_encoder(Branching(), tmp_path / "encoder.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_too_large_for_a_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "MAX_BYTES", 1000)
    with pytest.raises(ConfigError, match="does not fit"):
        export_encoder(KINDS["bert"](), tmp_path / "encoder.onnx")


def test_encoding_imports_nothing_that_is_slow(exported: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from naics_job.export.onnx_encoder import OnnxEncoder
assert OnnxEncoder(Path({str(exported)!r}))([[2, 9, 3]]).shape == (1, 32)
found = {HEAVY!r} & set(sys.modules)
assert not found, found
"""
    subprocess.run([sys.executable, "-c", code], check=True)
