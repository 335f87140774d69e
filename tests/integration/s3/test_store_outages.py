"""Every single request of a save goes wrong in every way, and the service is away for a while."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from campaigns.store_requests import (
    MANY,
    TIMES,
    fail_resumes,
    fail_saves,
    new_counts,
    weights,
)
from fault_proxy import Fault, FaultProxy

from naics_job.checkpoint.catalogue import Catalogue
from naics_job.checkpoint.manifest import CheckpointFacts
from naics_job.checkpoint.resume import resolve
from naics_job.checkpoint.store import RunStore
from naics_job.config.load import load_config
from naics_job.errors import TransientError
from naics_job.storage import files, retry
from naics_job.storage.sessions import filesystem

pytestmark = pytest.mark.integration
Facts = Callable[[int], CheckpointFacts]
Scratch = Callable[[bytes], Path]
Patience = Callable[[int], None]
REAL = retry.PATIENCE  # before tests replace it


@pytest.fixture
def root(bucket: Any) -> str:
    return files.join(bucket.url, "checkpoints/naics")


@pytest.fixture
def filled(root: str, scratch: Scratch, facts: Facts) -> str:
    """A store with three checkpoints of two runs, the newest of step 3."""
    for run_id, step in (("run-a", 1), ("run-a", 2), ("run-b", 3)):
        RunStore(root, run_id, 2).save(scratch(weights(step)), facts(step))
    return root


@pytest.mark.parametrize("fault", TIMES)
def test_no_request_of_a_save_can_lose_the_store(
    proxy: FaultProxy, root: str, patience: Patience, tmp_path: Path, fault: Fault
) -> None:
    """Without a second try: the save fails or is done, and the newest whole one is found."""
    patience(1)
    counts = new_counts()
    assert fail_saves(proxy, root, tmp_path, fault, counts) > 12  # else the proxy misses requests
    assert fail_resumes(proxy, root, tmp_path / "cache", fault, counts) > 8
    counts.show()
    assert counts.missed() == []
    assert counts.values["saves refused aloud"] >= 8


@pytest.mark.parametrize("fault", ["busy", "lost"])
def test_with_a_second_try_every_save_succeeds(
    proxy: FaultProxy, root: str, scratch: Scratch, facts: Facts, patience: Patience, fault: Fault
) -> None:
    patience(5)
    store = RunStore(root, "run-a", 2)
    for k in range(1, MANY):
        proxy.fail(k, fault, 2 * TIMES[fault])
        manifest = store.save(scratch(weights(k)), facts(k))
        happened = len(proxy.requests) >= k
        proxy.watch()
        assert Catalogue(root).newest_verified() == (manifest, [])
        assert manifest.name == f"step-{k:08d}"  # no second copy because an answer was lost
        if not happened:
            break
    assert k > 12


def test_a_server_that_does_not_answer_is_asked_again(
    proxy: FaultProxy, root: str, scratch: Scratch, facts: Facts, patience: Patience
) -> None:
    patience(2)
    store = RunStore(root, "run-a", 2)
    for k in (1, 3, 6):
        proxy.fail(k, "stall")
        assert store.save(scratch(weights(k)), facts(k)).step == k
        assert len(proxy.requests) > k


@pytest.mark.parametrize(
    ("ckpt_path", "fault"), [("auto", "busy"), ("last", "reset"), ("auto", "lost")]
)
def test_an_outage_is_never_an_empty_store(
    proxy: FaultProxy, filled: str, patience: Patience, tmp_path: Path, ckpt_path: str, fault: Fault
) -> None:
    """It begins with each request of the search, and outlasts the patience."""
    patience(2)
    for k in range(1, MANY):
        proxy.fail(k, fault, times=MANY)
        try:
            plan = resolve(ckpt_path, filled, tmp_path / f"cache-{k}")
        except TransientError:
            continue
        assert len(proxy.requests) < k
        assert plan.manifest is not None
        assert (plan.kind, plan.manifest.step) == ("resume", 3)
        break
    assert k > 8
    proxy.down = True
    with pytest.raises(TransientError):
        resolve(ckpt_path, filled, tmp_path / "down")


def test_the_budget_ends(
    proxy: FaultProxy, root: str, scratch: Scratch, facts: Facts, patience: Patience
) -> None:
    patience(4)
    proxy.down = True
    for call in (files.list_dir, files.exists, files.read_bytes, files.remove, files.version_of):
        proxy.watch()
        with pytest.raises(TransientError, match="cannot"):
            call(root)
        assert len(proxy.requests) == 4 * TIMES["reset"]
    with pytest.raises(TransientError):
        RunStore(root, "run-a", 2).save(scratch(weights(1)), facts(1))


def test_a_save_outlasts_an_outage(
    proxy: FaultProxy, root: str, scratch: Scratch, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 120 s with the patience of the settings, both run 60 times faster."""
    budget_s = load_config(None, None, []).config.storage.retry_minutes
    assert budget_s * 60 > 2 * 120
    fast = retry.Patience(REAL.attempts, REAL.base_s / 60, REAL.cap_s / 60, budget_s)
    monkeypatch.setattr(retry, "PATIENCE", fast)
    store = RunStore(root, "run-a", 2)
    store.save(scratch(weights(1)), facts(1))
    proxy.down = True
    threading.Timer(2.0, setattr, (proxy, "down", False)).start()
    proxy.watch()
    manifest = store.save(scratch(weights(2)), facts(2))
    assert len(proxy.requests) > 20
    assert Catalogue(root).newest_verified() == (manifest, [])


def test_permanent_errors_are_not_repeated(
    proxy: FaultProxy, root: str, patience: Patience
) -> None:
    patience(5)
    proxy.watch()
    with pytest.raises(Exception, match="no such file"):
        files.read_bytes(files.join(root, "nothing.json"))
    assert len(proxy.requests) <= 2  # whether there is such a file, or such a folder


def test_expired_credentials_are_read_again(
    proxy: FaultProxy, root: str, bucket: Any, patience: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a token of a pod was renewed: the session is made anew, not only asked again."""
    patience(2)
    bucket.put("checkpoints/naics/LATEST.json", b"{}")
    url = files.join(root, "LATEST.json")
    assert files.read_bytes(url) == b"{}"
    before, _ = filesystem(url)
    proxy.fail(1, "expired")
    assert files.read_bytes(url) == b"{}"
    assert filesystem(url)[0] is not before
