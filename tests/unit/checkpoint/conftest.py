"""Builders shared by the checkpoint tests."""

import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pytest

from naics_job.checkpoint.manifest import RunManifest


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
def run_manifest() -> Callable[..., RunManifest]:
    return make_run


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
