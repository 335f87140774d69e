"""Builders shared by the checkpoint tests."""

import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pytest

from naics_job.checkpoint.manifest import CheckpointFacts, RunManifest


def make_facts(step: int, **changes: Any) -> CheckpointFacts:
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


def make_run(run_id: str, **changes: Any) -> RunManifest:
    values: dict[str, Any] = {
        "run_id": run_id,
        "config_hash": "c" * 64,
        "borders": {"total_steps": 100},
        "global_batch_size": 32,
        "total_steps": 100,
        "base_model_sha256": "b" * 64,
        "data_digest": "d" * 64,
        "created_at": "2026-01-02T03:04:05.000000+00:00",
    }
    return RunManifest(**{**values, **changes})


@pytest.fixture
def facts() -> Callable[..., CheckpointFacts]:
    return make_facts


@pytest.fixture
def run_manifest() -> Callable[..., RunManifest]:
    return make_run


@pytest.fixture
def scratch(tmp_path: Path) -> Callable[[bytes], Path]:
    """Write bytes to a local file as training does before a save."""

    def write(data: bytes) -> Path:
        path = tmp_path / "scratch" / "payload.ckpt"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return path

    return write


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Folder of an experiment, local and as an object store."""
    if request.param == "memory":
        yield "memory://bucket/checkpoints/naics"
        fsspec.filesystem("memory").store.clear()
    else:
        yield str(tmp_path / "checkpoints" / "naics")


@pytest.fixture
def small_files() -> Callable[[], AbstractContextManager[None]]:
    """Let the kernel refuse (EFBIG) what would make a file larger than 64 KiB."""

    @contextmanager
    def limit() -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit
