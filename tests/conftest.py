"""What tests of several packages share: a tiny random BERT, and what a checkpoint is made of."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_bert import make_tiny

from naics_job.checkpoint.manifest import CheckpointFacts

# Before torch is loaded. The tensors here are tiny: more threads only wait for each other, and with
# two test processes, or beside another job, that multiplies the time of some tests by ten.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a BERT of 2 layers, hidden size 32, at most 48 tokens, with dropout 0.1."""
    return make_tiny(tmp_path_factory.mktemp("tiny-bert"))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests to remote storage are not repeated, save in the tests about that."""
    from naics_job.storage import retry

    monkeypatch.setattr(retry, "PATIENCE", retry.Patience(attempts=1, base_s=0.0, cap_s=0.0))


@pytest.fixture
def facts() -> Callable[..., CheckpointFacts]:
    """What training says of a state after some steps."""

    def make(step: int, **changes: Any) -> CheckpointFacts:
        values: dict[str, Any] = {
            "step": step,
            "epoch": step // 10,
            "position": step * 32,
            "phase": 1,
            "borders": {"total_steps": 100, "phase1_end": 0.3},
            "config_hash": "c" * 64,
            "architecture": "a" * 64,
            "world_size": 1,
            "global_batch_size": 32,
            "versions": {"torch": "2.13.0"},
        }
        return CheckpointFacts(**{**values, **changes})

    return make


@pytest.fixture
def scratch(tmp_path: Path) -> Callable[[bytes], Path]:
    """Write bytes to a local file as training does before a save."""

    def write(data: bytes) -> Path:
        path = tmp_path / "scratch" / "payload.ckpt"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return path

    return write
