"""Where the runs of a campaign live, the commands that start them, and what they leave."""

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiny_bert import TINY

from campaigns.processes import Command
from naics_job.checkpoint.catalogue import Catalogue
from naics_job.checkpoint.manifest import CheckpointManifest
from naics_job.storage import files

EXPERIMENT = "smoke"
ROW = re.compile(r'\{"step"[^{}\n]*\}')  # a killed run may leave half a line before the next one
S3_ALONE = {  # nothing of the developer's own account
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
}


@dataclass
class Scene:
    """One experiment: its folder, its base encoder, its settings, and the store of checkpoints.

    Args:
        store: folder or URL below which checkpoints go; the folder of the scene unless given.
        data: a data folder to share; one of its own unless given.
    """

    folder: Path
    encoder: Path
    settings: Sequence[str] = ()
    store: str = ""
    data: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.store = self.store or str(self.folder / "checkpoints")

    @property
    def root(self) -> str:
        """Folder or URL of the experiment's checkpoints."""
        return files.join(self.store, EXPERIMENT)

    def train(self, *more: str, ckpt_path: str = "auto") -> list[str]:
        """Arguments of `naics-embedder` for this experiment."""
        dirs = {
            "data": self.data or self.folder / "data",
            "log": self.folder / "logs",
            "output": self.folder / "outputs",
            "checkpoint": self.store,
        }
        return [
            *("train", "--profile", "smoke", "--ckpt-path", ckpt_path),
            f"model.base_model_name={self.encoder}",
            *(f"dirs.{name}_dir={path}" for name, path in dirs.items()),
            *TINY,
            *self.settings,
            *more,
        ]

    def command(self, *more: str, name: str = "run", **hooks: Any) -> Command:
        """The training command in one process."""
        return Command(self.train(*more), self.folder, name, dict(self.environment), hooks)

    def newest(self) -> tuple[CheckpointManifest | None, list[str]]:
        """The newest checkpoint that verifies, as a reader outside of the run finds it."""
        return Catalogue(self.root).newest_verified()

    def has_manifests(self) -> bool:
        """Whether any save of the experiment has landed, whole or not."""
        with suppress(FileNotFoundError):
            return bool(Catalogue(self.root).scan().manifests)
        return False

    def steps(self) -> list[tuple[int, float]]:
        """(step, loss) of every line of training that was logged, in the order of the files."""
        found = []
        for log in sorted((self.folder / "logs" / EXPERIMENT).glob("*/metrics.jsonl")):
            for text in ROW.findall(log.read_text()):
                row = json.loads(text)
                if "train/total" in row:
                    found.append((int(row["step"]), float(row["train/total"])))
        return found

    def steps_done(self) -> int:
        """Optimizer steps that are known to be done: by the log, or by a save before its line."""
        logged = max((step + 1 for step, _ in self.steps()), default=0)
        manifest, _ = self.newest()
        return max(logged, manifest.step if manifest else 0)

    def record(self) -> dict[str, Any]:
        """run_record.json, empty when there is none."""
        path = self.folder / "outputs" / EXPERIMENT / "run_record.json"
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return found

    def weights_digest(self) -> str:
        """sha256 over names and bytes of all weights in the newest checkpoint."""
        manifest, _ = self.newest()
        assert manifest is not None
        local = files.fetch(files.join(self.root, manifest.path), self.folder / "fetched")
        return digest_of(local)


def digest_of(checkpoint: Path) -> str:
    """sha256 over names and bytes of the weights in a checkpoint file."""
    import torch

    state = torch.load(checkpoint, weights_only=True, map_location="cpu")["state_dict"]
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def trace_of(steps: Sequence[tuple[int, float]]) -> dict[int, float]:
    """Loss by step. Raises AssertionError when a step that was taken twice had two losses."""
    found: dict[int, float] = {}
    for step, loss in steps:
        assert found.setdefault(step, loss) == loss, f"step {step}: {found[step]} and {loss}"
    return found


@contextmanager
def use_s3(environment: dict[str, str]) -> Iterator[None]:
    """Let s3fs of this process find the server, and forget it again."""
    wanted = {**S3_ALONE, **environment}
    before = {name: os.environ.get(name) for name in wanted}
    _close_sessions()
    os.environ.update(wanted)
    try:
        yield
    finally:
        _close_sessions()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def _close_sessions() -> None:
    from s3fs import S3FileSystem

    known = list(S3FileSystem._cache.values())
    if importlib.util.find_spec("naics_job.storage.sessions"):  # keeps its own
        from naics_job.storage import sessions

        known += sessions.forget_all()
    for fs in known:
        if isinstance(fs, S3FileSystem) and fs._s3 is not None:
            fs.close_session(fs.loop, fs._s3creator)
    S3FileSystem.clear_instance_cache()
