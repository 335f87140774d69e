"""The run record: one JSON file that says what a run was, how it went and how good it is."""

import dataclasses
import importlib.metadata
import json
import math
import os
import platform
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from naics_job.config.schema import Config
from naics_job.data.labelled import LabelledTexts
from naics_job.data.prepare import NaicsData
from naics_job.model.weights import BaseWeights
from naics_job.storage.files import exists, join, read_bytes, write_bytes_atomic

FINISHED = "finished_record.json"
PACKAGES = ("torch", "lightning", "transformers", "peft", "numpy")


@dataclass
class RunRecord:
    """Grows while the run goes on; written at the end whatever the outcome."""

    run_id: str
    config_hash: str
    data_source: str = ""
    data_digest: str = ""
    base_model: dict[str, str] = field(default_factory=dict)
    labelled_texts: dict[str, str] = field(default_factory=dict)  # url, sha256, rows
    status: str = "running"  # running | finished | stopped | failed
    exit_code: int | None = None
    error: str | None = None  # why it failed or stopped
    device: str = "cpu"
    steps: int = 0
    epochs: int = 0
    exported_step: int = 0  # after which the exported weights stood: the best where it stops early
    wall_s: float = 0.0
    time_to_first_step_s: float | None = None
    anchors_per_s: float = 0.0
    tokens_per_s: float = 0.0
    productive_s: float = 0.0  # in steps that were not done before
    goodput: float | None = None  # their share of wall_s
    peak_rss_bytes: int = 0
    peak_gpu_bytes: int | None = None  # most memory PyTorch had allocated on this process's GPU
    exporter_restarts: int = 0
    phases: list[dict[str, Any]] = field(default_factory=list)
    restarts: int = 0
    lost_steps: int = 0  # done again after restarts, as far as the lost starts had told of them
    warm_start: str | None = None
    heldout_trained_before: int = 0  # held-out codes trained by runs its weights come from
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    baseline: dict[str, dict[str, float]] = field(default_factory=dict)
    health: dict[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None  # newest checkpoint of the run
    exports: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    image: str = field(default_factory=lambda: os.environ.get("NAICS_IMAGE", ""))
    started_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def describe(
        self, data: NaicsData, base: BaseWeights, labelled: LabelledTexts | None = None
    ) -> None:
        """Note what the run reads."""
        if labelled is not None:
            self.labelled_texts = {"url": labelled.url, "sha256": labelled.sha256}
            self.labelled_texts["rows"] = str(len(labelled))
        self.data_source, self.data_digest = data.source, data.digest
        self.base_model = {"origin": base.origin, "sha256": base.sha256}

    def summary(self) -> dict[str, Any]:
        """What an operator asks first, small enough for a pod's status."""
        return {
            "run_id": self.run_id,
            "status": self.status,
            "error": self.error,
            "step": self.steps,
            "phase": self.phases[-1]["phase"] if self.phases else None,
            "restarts": self.restarts,
            "lost_steps": self.lost_steps,
            "checkpoint": self.checkpoint,
            "metrics": jsonable(self.metrics),
        }

    def write(self, config: Config, started: float) -> str:
        """Write `<dirs.output_dir>/<experiment_name>/run_record.json` and return its path.

        The record of an earlier run that finished is kept as finished_record.json unless this one
        finished or exported too: the embeddings in that folder are still that run's.
        """
        self.wall_s = time.monotonic() - started
        self.goodput = self.productive_s / max(self.wall_s, 1e-9)
        self.versions = versions()
        url = record_url(config)
        if self.status != "finished" and not self.exports:
            _keep_finished(url)
        text = json.dumps(jsonable(dataclasses.asdict(self)), indent=2) + "\n"
        write_bytes_atomic(url, text.encode())
        return url


def record_url(config: Config) -> str:
    """Path or URL of the record of `config`'s experiment."""
    return join(config.dirs.output_dir, config.experiment_name, "run_record.json")


def _keep_finished(url: str) -> None:
    """Copy a record that says finished; one that cannot be read is no loss."""
    if not exists(url):
        return
    data = read_bytes(url)
    try:
        finished = json.loads(data)["status"] == "finished"
    except (ValueError, KeyError, TypeError):
        return
    if finished:
        write_bytes_atomic(join(url.rpartition("/")[0], FINISHED), data)


def versions() -> dict[str, str]:
    """Versions of this package, Python and the packages that decide the numbers."""
    found = {name: importlib.metadata.version(name) for name in ("naics-job", *PACKAGES)}
    return {"python": platform.python_version(), **found}


def jsonable(value: Any) -> Any:
    """Copy of `value` in which numbers that JSON lacks are null."""
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
