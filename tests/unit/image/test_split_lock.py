"""The lock is split without loss; without CUDA only torch's own file is another one."""

from pathlib import Path
from types import ModuleType

import pytest
from scripts import ROOT, load_script

LOCK = (ROOT / "requirements.lock").read_text()


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return load_script("image/split_lock.py")


def pins(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines() if "==" in line]


def hashes(text: str) -> int:
    return text.count("--hash=sha256:")


def test_with_cuda_nothing_is_lost(tool: ModuleType) -> None:
    parts = tool.split(LOCK, "cuda")
    assert sorted(pins("".join(parts.values()))) == sorted(pins(LOCK))
    assert sum(hashes(text) for text in parts.values()) == hashes(LOCK)
    assert [pin.partition("==")[0] for pin in pins(parts["torch"])] == ["torch"]
    names = [pin.partition("==")[0] for pin in pins(parts["cuda"])]
    assert {"triton", "nvidia-cudnn-cu13", "nvidia-nccl-cu13", "cuda-toolkit"} <= set(names)


def test_without_cuda_the_rest_keeps_its_hashes(tool: ModuleType) -> None:
    with_cuda, parts = tool.split(LOCK, "cuda"), tool.split(LOCK, "cpu")
    assert parts["cuda"] == ""
    assert parts["libraries"] == with_cuda["libraries"]
    kept = [pin for pin in pins(parts["libraries"]) if pin.startswith(("nvidia", "cuda", "triton"))]
    assert [pin.partition("==")[0] for pin in kept] == ["nvidia-ml-py"]  # a direct dependency
    (torch,) = pins(with_cuda["torch"])
    assert parts["torch"] == f"{torch}+cpu\n"


def test_a_digest_of_torch_is_asked_for(tool: ModuleType) -> None:
    digest = "ab" * 32
    assert tool.split(LOCK, "cpu", digest)["torch"].endswith(f"+cpu --hash=sha256:{digest}\n")


def test_the_command_writes_each_part(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = ROOT / "requirements.lock"
    arguments = ["split_lock.py", str(lock), str(tmp_path), "--flavor", "cpu"]
    monkeypatch.setattr("sys.argv", arguments)
    assert tool.main() == 0
    written = {path.stem: path.read_text() for path in tmp_path.iterdir()}
    assert written == tool.split(LOCK, "cpu")
