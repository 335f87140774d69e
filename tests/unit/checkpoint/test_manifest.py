"""Records of checkpoints and runs: read back exactly or refused with a reason."""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest

from naics_job.checkpoint import manifest as m
from naics_job.errors import CheckpointError


@pytest.fixture
def record(facts: Callable[..., m.CheckpointFacts]) -> m.CheckpointManifest:
    return m.CheckpointManifest(
        name="step-00000100",
        file="step-00000100.ckpt",
        size_bytes=12,
        sha256="e" * 64,
        run_id="20260102-030405-abcdef",
        created_at=m.timestamp(),
        **asdict(facts(100)),
    )


def test_a_record_is_read_back(
    record: m.CheckpointManifest, run_manifest: Callable[..., m.RunManifest]
) -> None:
    assert m.decode(m.CheckpointManifest, m.encode(record), "x") == record
    run = run_manifest("r")
    assert m.decode(m.RunManifest, m.encode(run), "x") == run


def test_every_cut_and_every_changed_byte_is_noticed(record: m.CheckpointManifest) -> None:
    data = m.encode(record).rstrip()
    for end in range(len(data)):
        with pytest.raises(CheckpointError):
            m.decode(m.CheckpointManifest, data[:end], "x")
    for at in range(len(data)):
        flipped = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        try:
            read = m.decode(m.CheckpointManifest, flipped, "x")
        except CheckpointError:
            continue
        assert read == record  # white space only


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"step": "100"}, "mistypes step"),
        ({"step": True}, "mistypes step"),
        ({"size_bytes": None}, "size_bytes"),
        ({"surprise": 1}, "surprise"),
        ({"schema_version": 3}, "schema version 3"),
        ({"step": 101}, "changed after"),
    ],
)
def test_a_wrong_record_says_what_is_wrong(
    record: m.CheckpointManifest, change: dict[str, Any], reason: str
) -> None:
    values = {**json.loads(m.encode(record)), **change}
    with pytest.raises(CheckpointError, match=reason) as caught:
        m.decode(m.CheckpointManifest, json.dumps(values).encode(), "x.manifest.json")
    assert "x.manifest.json" in caught.value.args[0]
    assert caught.value.hint


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"\xff\xfe", b'{"step": 1}'])
def test_other_contents_are_refused(data: bytes) -> None:
    with pytest.raises(CheckpointError):
        m.decode(m.CheckpointManifest, data, "x")


def test_run_ids_are_new_each_time_and_sort_by_time() -> None:
    ids = [m.new_run_id() for _ in range(50)]
    assert len(set(ids)) == 50
    assert all(re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{6}", run_id) for run_id in ids)
    assert [i[:15] for i in ids] == sorted(i[:15] for i in ids)


def test_timestamps_have_one_length() -> None:
    assert len({len(m.timestamp()) for _ in range(1000)}) == 1


@pytest.mark.parametrize(
    ("file", "step"),
    [
        ("step-00000100.ckpt", 100),
        ("step-00000100.2.ckpt.manifest.json", 100),
        ("run.json", None),
        ("step-x.ckpt", None),
        ("00000100.ckpt", None),
    ],
)
def test_step_of(file: str, step: int | None) -> None:
    assert m.step_of(file) == step
    assert m.step_of(m.checkpoint_name(7, 3) + ".ckpt") == 7


def test_a_run_of_an_older_version_is_read_with_an_unknown_split(
    run_manifest: Callable[..., m.RunManifest],
) -> None:
    run = run_manifest("r", schema_version=1)
    values = asdict(run)
    del values["heldout_digest"]  # as version 1 wrote it
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    data = json.dumps({**values, "record_sha256": digest}).encode()
    read = m.decode(m.RunManifest, data, "run.json")
    assert read == run
    assert read.heldout_digest == ""


def test_manifests_are_read_without_torch() -> None:
    code = (
        "import sys; import naics_job.checkpoint.store, naics_job.checkpoint.resume, "
        "naics_job.checkpoint.payload; assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
