"""A store that cannot serve a run ends it before anything is prepared, with a code and a hint."""

import dataclasses
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fault_proxy import Fault, FaultProxy
from s3fs import S3FileSystem

from naics_job.checkpoint.lease import RunLease, run_lease
from naics_job.checkpoint.manifest import SCHEMA_VERSION, CheckpointFacts
from naics_job.checkpoint.resume import resolve
from naics_job.checkpoint.store import RunStore
from naics_job.errors import CheckpointError, NaicsJobError, TransientError
from naics_job.storage import files
from naics_job.training.preflight import check_store

pytestmark = pytest.mark.integration
Patience = Callable[[int], None]
LIST, WRITE, READ, DELETE = r"^GET \S*list-type", r"^PUT", r"^GET \S*\.probe-", r"^DELETE"


@pytest.fixture
def root(bucket: Any) -> str:
    return files.join(bucket.url, "checkpoints/naics")


def refused(root: str) -> NaicsJobError:
    with pytest.raises(NaicsJobError) as caught:
        check_store(root)
    assert root.removeprefix("s3://") in str(caught.value)
    return caught.value


def test_a_good_store_is_left_as_it_was(
    bucket: Any, root: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="naics_job")
    assert check_store(root).conditional_create
    assert bucket.keys() == []
    assert [record.message for record in caplog.records] == ["storage.probed"]


@pytest.mark.parametrize(
    ("pattern", "fault", "expected"),
    [
        (LIST, "denied", (74, "cannot list", "grant s3:ListBucket")),
        (WRITE, "denied", (74, "cannot create", "grant s3:PutObject")),
        (READ, "denied", (74, "cannot read", "grant s3:GetObject")),
        (DELETE, "denied", (74, "cannot remove", "grant s3:DeleteObject")),
        ("", "skewed", (74, "clocks differ", "set the clock")),
        ("", "region", (74, "Wrong region", "AWS_DEFAULT_REGION")),
        ("", "moved", (74, "Another endpoint", "AWS_DEFAULT_REGION")),
        ("", "expired", (75, "expired", "renew the credentials")),
        ("", "busy", (75, "reduce your request rate", "try again")),
    ],
)
def test_each_refusal_is_told_before_the_run(
    proxy: FaultProxy, root: str, patience: Patience, pattern: str, fault: Fault,
    expected: tuple[int, str, str],
) -> None:  # fmt: skip
    patience(2)
    proxy.fail_on(pattern, fault)
    error, (code, words, hint) = refused(root), expected
    assert error.exit_code == code
    assert words in str(error)
    assert hint in error.hint


def test_a_right_that_is_missing_leaves_no_probe(bucket: Any, proxy: FaultProxy, root: str) -> None:
    proxy.fail_on(READ, "denied")
    refused(root)
    assert bucket.keys() == []


def test_a_missing_bucket_is_told_before_the_run(bucket: Any) -> None:
    error = refused("s3://no-such-bucket-of-ours/checkpoints/naics")
    assert error.exit_code == 74
    assert "the bucket does not exist" in str(error)
    assert "create the bucket" in error.hint


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
def test_wrong_credentials_are_told_before_the_run(
    bucket: Any, root: str, sessions: Callable[[], None], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "wrong")
    sessions()
    error = refused(root)
    assert error.exit_code == 74
    assert "check the credentials" in error.hint


def test_a_token_that_is_renewed_in_time_is_no_error(
    proxy: FaultProxy, root: str, patience: Patience
) -> None:
    patience(3)
    proxy.fail_on("", "expired", times=2)
    assert check_store(root).conditional_create
    assert proxy.unused == 0


@pytest.mark.parametrize("how", ["refuses", "ignores"])
def test_a_store_without_conditions_is_told_and_worked_with(
    proxy: FaultProxy, root: str, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch, how: str,
) -> None:  # fmt: skip
    if how == "refuses":
        proxy.fail_on(r"(?i)\r\nif-none-match:", "unknown")
    else:  # the header is signed: a proxy cannot take it away
        real = S3FileSystem._pipe_file

        async def ignoring(self: Any, path: str, data: bytes, mode: str = "", **more: Any) -> Any:
            return await real(self, path, data, **more)

        monkeypatch.setattr(S3FileSystem, "_pipe_file", ignoring)
    able = check_store(root)
    assert not able.conditional_create
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.message == "storage.no_conditional_create"
    with run_lease(root, "run-a", 3.0, able.conditional_create) as held:
        assert len(files.list_dir(files.join(root, "lease"))[0]) == len("00000001.1a2b3c4d.json")
        with pytest.raises(CheckpointError, match="is held: run run-a"):
            RunLease(root, "run-b", 3.0, able.conditional_create).acquire()
        held.require()


def test_of_two_claims_to_one_epoch_one_is_told_at_its_next_look(bucket: Any, root: str) -> None:
    """Where names are not exclusive: the smaller nonce goes on, the other writes nothing more."""
    held = RunLease(root, "run-a", 1e6, exclusive_names=False)
    held.acquire()
    own = dataclasses.replace(held._claim, nonce="00000000", run_id="run-b")
    bucket.put("checkpoints/naics/lease/00000001.00000000.json", own.encode())
    with pytest.raises(CheckpointError, match="has lost its lease"):
        held.require()
    held.release()


def test_a_second_run_in_a_bucket_is_refused(root: str) -> None:
    with run_lease(root, "run-a", 3.0, True) as held:
        with pytest.raises(CheckpointError, match=r"is held: run run-a, process \d+ on") as caught:
            RunLease(root, "run-b", 3.0, True).acquire()
        assert caught.value.exit_code == 74
        assert "experiment_name" in caught.value.hint
        held.require()
    with run_lease(root, "run-b", 1e6, True) as held:
        assert not held.waited


def test_a_lease_outlasts_an_outage(
    proxy: FaultProxy, root: str, caplog: pytest.LogCaptureFixture
) -> None:
    with run_lease(root, "run-a", 0.6, True) as held:
        proxy.down = True
        with pytest.raises(TransientError):
            held.require()
        while "lease.renewal_failed" not in [record.message for record in caplog.records]:
            held._stop.wait(0.05)
        proxy.down = False
        before = json.loads(files.read_bytes(files.join(root, "lease", "00000001.json")))
        after = before
        while after["counter"] == before["counter"]:
            after = json.loads(files.read_bytes(files.join(root, "lease", "00000001.json")))
        held.require()


def test_a_manifest_from_the_future_is_named(
    bucket: Any, root: str, scratch: Callable[[bytes], Path],
    facts: Callable[[int], CheckpointFacts], tmp_path: Path,
) -> None:  # fmt: skip
    """Beside older ones it is passed over, aloud; alone it ends the run."""
    store = RunStore(root, "run-a", 2)
    older, newer = (store.save(scratch(b"weights %d" % step), facts(step)) for step in (1, 2))
    manifest = f"checkpoints/naics/{newer.path}.manifest.json"
    values = {**json.loads(bucket.get(manifest)), "schema_version": SCHEMA_VERSION + 1}
    bucket.put(manifest, json.dumps(values).encode())
    plan = resolve("auto", root, tmp_path / "cache")
    assert plan.manifest == older
    assert f"schema version {SCHEMA_VERSION + 1}" in plan.skipped[0]
    assert newer.file in plan.skipped[0]
    for key in (f"{older.path}.manifest.json", older.path):
        bucket.client.delete_object(Bucket=bucket.name, Key=f"checkpoints/naics/{key}")
    with pytest.raises(CheckpointError, match=f"{newer.file}.* schema version") as caught:
        resolve("auto", root, tmp_path / "cache")
    assert caught.value.exit_code == 74
    assert caught.value.hint


def test_a_pointer_to_nothing_alone_is_no_empty_store(
    bucket: Any, root: str, tmp_path: Path
) -> None:
    gone = b'{"run_id": "run-a", "file": "step-00000099.ckpt", "step": 99}'
    bucket.put("checkpoints/naics/LATEST.json", gone)
    with pytest.raises(CheckpointError, match="step-00000099") as caught:
        resolve("auto", root, tmp_path)
    assert caught.value.exit_code == 74
