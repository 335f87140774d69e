"""A small run with data, weights, checkpoints and results in a bucket, stopped and resumed."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from naics_job.checkpoint.catalogue import Catalogue
from naics_job.storage import files
from naics_job.training.callbacks.throughput import ThroughputCallback

pytestmark = pytest.mark.integration
STOP_AT = 12  # phase 2, within an epoch


@pytest.fixture
def stop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM after step `STOP_AT`, the first time it is reached."""
    original, stops = ThroughputCallback.on_train_batch_end, [STOP_AT]

    def patched(self: Any, trainer: Any, *arguments: Any) -> None:
        original(self, trainer, *arguments)
        if stops and trainer.global_step == stops[0]:
            stops.clear()
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(ThroughputCallback, "on_train_batch_end", patched)


def losses(logs: Path) -> dict[int, float]:
    (file,) = logs.glob("smoke/*/metrics.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return {row["step"]: row["train/total"] for row in rows if "train/total" in row}


def test_a_stopped_run_in_a_bucket_equals_a_straight_one_on_disk(
    run_tiny: Any, bucket: Any, wordy_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, stop_once: None,
) -> None:  # fmt: skip
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # of the cache for what is fetched
    for file in wordy_folder.iterdir():
        files.copy_into(file, f"{bucket.url}/weights/tiny/{file.name}")
    dirs = [f"dirs.{name}_dir={bucket.url}/job/{name}" for name in ("data", "output", "checkpoint")]
    remote = (f"model.base_model_name={bucket.url}/weights/tiny", *dirs)

    stopped = run_tiny(tmp_path / "bucket", *remote)
    assert stopped.error is not None
    assert stopped.error.exit_code == 143
    resumed = run_tiny(tmp_path / "bucket", *remote, ckpt_path="last")
    assert resumed.error is None
    straight = run_tiny(tmp_path / "disk")
    assert straight.error is None

    assert losses(tmp_path / "bucket/logs") == straight.losses
    record = json.loads(bucket.get("job/output/smoke/run_record.json"))
    assert (record["status"], record["restarts"], record["steps"]) == ("finished", 1, 21)
    for key in ("metrics", "health", "baseline", "data_digest"):
        assert record[key] == straight.record[key]
    manifest, skipped = Catalogue(f"{bucket.url}/job/checkpoint/smoke").newest_verified()
    assert manifest is not None
    assert (manifest.step, skipped) == (21, [])
    newest = files.fetch(f"{bucket.url}/job/checkpoint/smoke/{manifest.path}", tmp_path / "newest")
    weights = torch.load(newest, weights_only=True)["state_dict"]
    assert weights.keys() == straight.weights.keys()
    assert all(torch.equal(weights[name], straight.weights[name]) for name in weights)
    check_places(bucket, tmp_path / "bucket")


def check_places(bucket: Any, folder: Path) -> None:
    """Everything is in the bucket; of this machine only logs and the cache are used."""
    names = {key.split("/", 2)[-1] for key in bucket.keys("job/")}
    exports = ("embeddings.parquet", "run_record.json", "model/model.safetensors")
    assert {f"smoke/{name}" for name in exports} <= names
    assert {"naics_descriptions.parquet", "naics_triplets.parquet"} <= names
    assert not [name for name in names if "write-probe" in name or name.endswith(".tmp")]
    assert [entry.name for entry in folder.iterdir()] == ["logs"]
