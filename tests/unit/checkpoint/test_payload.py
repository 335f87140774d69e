"""Checkpoint files: what goes in comes out; anything else is refused and never executed."""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from naics_job.checkpoint.manifest import CheckpointFacts, CheckpointManifest
from naics_job.checkpoint.payload import architecture_of, load_payload, save_payload
from naics_job.errors import CheckpointError
from naics_job.storage.files import sha256_of

ARCHITECTURE = "a" * 64


class Phase(IntEnum):
    ONE = 1


def payload() -> dict[str, Any]:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return {
        "architecture": ARCHITECTURE,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng": {"torch": torch.get_rng_state(), "python": [3, (1, 2), None]},
        "blob": b"\x00\xff",
        "sampler": {"epoch": 2, "position": 640, "share": 0.25, "done": False},
        "labels": torch.arange(4),
        "half": torch.ones(2, dtype=torch.bfloat16),
    }


def manifest_for(path: Path, facts: CheckpointFacts) -> CheckpointManifest:
    return CheckpointManifest(
        name=path.stem,
        file=path.name,
        size_bytes=path.stat().st_size,
        sha256=sha256_of(path),
        run_id="r",
        created_at="2026-01-02T03:04:05.000000+00:00",
        **asdict(facts),
    )


@pytest.fixture
def saved(tmp_path: Path, facts: Callable[..., CheckpointFacts]) -> tuple[Path, CheckpointManifest]:
    path = tmp_path / "a.ckpt"
    save_payload(payload(), path)
    return path, manifest_for(path, facts(1))


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return bool(torch.equal(a, b)) and a.dtype == b.dtype
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


@pytest.mark.parametrize("with_manifest", [True, False])
def test_what_is_saved_is_loaded(
    saved: tuple[Path, CheckpointManifest], with_manifest: bool
) -> None:
    path, manifest = saved
    torch.manual_seed(0)
    before = payload()
    save_payload(before, path)
    manifest = replace(manifest, sha256=sha256_of(path), size_bytes=path.stat().st_size)
    after = load_payload(path, manifest if with_manifest else None)
    assert same(before, after)
    assert after["model"]["weight"].device.type == "cpu"


def test_equal_payloads_give_equal_bytes_whatever_the_file_is_called(tmp_path: Path) -> None:
    content = payload()
    for name in ("first.ckpt", "second-and-longer.ckpt"):
        save_payload(content, tmp_path / name)
    first, second = (tmp_path / n for n in ("first.ckpt", "second-and-longer.ckpt"))
    assert first.read_bytes() == second.read_bytes()


def test_a_truncated_file_is_refused(saved: tuple[Path, CheckpointManifest]) -> None:
    path, manifest = saved
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="is truncated") as caught:
        load_payload(path, manifest)
    assert "--ckpt-path last" in caught.value.hint
    with pytest.raises(CheckpointError, match="truncated"):
        load_payload(path, None)


def test_a_flipped_bit_is_refused(saved: tuple[Path, CheckpointManifest]) -> None:
    path, manifest = saved
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="sha256 differs"):
        load_payload(path, manifest)


def test_without_manifest_no_flipped_bit_changes_what_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    content = {"architecture": ARCHITECTURE, "w": torch.arange(6.0), "n": [1, "two"]}
    save_payload(content, path)
    data = path.read_bytes()
    refused = 0
    for at in range(0, len(data), 11):
        for bit in (0, 7):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            path.write_bytes(flipped)
            try:
                assert same(content, load_payload(path, None)), at
            except CheckpointError:
                refused += 1
    assert refused > 50


def test_architecture_is_names_and_shapes() -> None:
    state = {"a": torch.zeros(2, 3), "b": torch.zeros(4)}
    assert architecture_of(state) == architecture_of({"b": torch.ones(4), "a": torch.ones(2, 3)})
    assert architecture_of(state) != architecture_of({**state, "b": torch.zeros(5)})
    assert architecture_of(state) != architecture_of({"a": state["a"], "c": state["b"]})
    assert architecture_of(state) == architecture_of(OrderedDict(state))


class Evil:
    """Unpickling this creates the file `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def evil_file(kind: str, path: Path, marker: Path) -> None:
    content = {"architecture": ARCHITECTURE, "model": Evil(marker)}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content))
    elif kind == "torch":
        torch.save(content, path)
    elif kind == "torch-legacy":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    else:  # an archive that looks like torch's, with the pickle put in by hand
        good = io.BytesIO()
        torch.save({"x": torch.ones(2)}, good)
        with zipfile.ZipFile(good) as source, zipfile.ZipFile(path, "w") as target:
            for name in source.namelist():
                evil = name.endswith("/data.pkl")
                target.writestr(name, pickle.dumps(content, 2) if evil else source.read(name))


@pytest.mark.parametrize("kind", ["pickle", "torch", "torch-legacy", "archive"])
@pytest.mark.parametrize("with_manifest", [True, False])
def test_code_in_a_checkpoint_is_never_executed(
    tmp_path: Path, facts: Callable[..., CheckpointFacts], kind: str, with_manifest: bool
) -> None:
    path, marker = tmp_path / "evil.ckpt", tmp_path / "executed"
    evil_file(kind, path, marker)
    manifest = manifest_for(path, facts(1)) if with_manifest else None
    with pytest.raises(CheckpointError, match=r"evil\.ckpt"):
        load_payload(path, manifest)
    assert not marker.exists()
    if kind == "pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert marker.exists(), "the file was harmless: this test proves nothing"


def test_other_kinds_of_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    for data in (b"", b"not a checkpoint", b"PK\x05\x06" + bytes(18)):
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match="no checkpoint"):
            load_payload(path, None)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="holds no checkpoint but"):
        load_payload(path, None)
    with pytest.raises(CheckpointError, match="no such file"):
        load_payload(tmp_path / "missing.ckpt", None)


@pytest.mark.parametrize(
    ("item", "kind"),
    [
        (np.float64(1.0), "float64"),
        (np.zeros(2), "ndarray"),
        (Phase.ONE, "Phase"),
        (Path("x"), "Path"),
        (torch.__version__, "TorchVersion"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(tmp_path: Path, item: object, kind: str) -> None:
    path = tmp_path / "a.ckpt"
    with pytest.raises(CheckpointError, match=rf"payload\['a'\]\[0\] is \w*{kind}"):
        save_payload({"a": [item]}, path)
    assert not path.exists()


def test_a_full_disk_keeps_the_old_file(
    tmp_path: Path, small_files: Callable[[], AbstractContextManager[None]]
) -> None:
    path = tmp_path / "a.ckpt"
    save_payload({"x": torch.zeros(4)}, path)
    before = path.read_bytes()
    with small_files(), pytest.raises(CheckpointError, match="File too large") as caught:
        save_payload({"x": torch.zeros(1 << 20)}, path)
    assert caught.value.exit_code == 74
    assert "older checkpoints are intact" in caught.value.hint
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.ckpt"]
