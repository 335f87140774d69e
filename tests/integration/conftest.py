"""Small runs inside this process: a tiny random encoder, 60 codes, no network."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_bert import TINY, make_wordy
from torch import Tensor

from naics_job.config.load import load_config
from naics_job.errors import NaicsJobError
from naics_job.observability.logs import unbind_all

Trace = dict[int, float]  # optimizer step -> train/total


@pytest.fixture(scope="session")
def wordy_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny BERT with a tokenizer that knows the words of the bundled titles."""
    return make_wordy(tiny_folder, tmp_path_factory.mktemp("wordy") / "bert")


@dataclass(frozen=True)
class Outcome:
    """What a run left in its folder."""

    folder: Path
    error: NaicsJobError | None

    @property
    def record(self) -> dict[str, Any]:
        """run_record.json."""
        found: dict[str, Any] = json.loads(
            (self.folder / "outputs/smoke/run_record.json").read_text()
        )
        return found

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Lines of metrics.jsonl of the newest run."""
        lines = (self.folder / "logs/smoke" / self.record["run_id"] / "metrics.jsonl").read_text()
        return [json.loads(line) for line in lines.splitlines()]

    @property
    def losses(self) -> Trace:
        """train/total by step, of all starts of the newest run together."""
        return {row["step"]: row["train/total"] for row in self.rows if "train/total" in row}

    @property
    def checkpoint(self) -> Path:
        """The newest checkpoint."""
        pointer = json.loads((self.folder / "checkpoints/smoke/LATEST.json").read_text())
        return self.folder / "checkpoints/smoke" / pointer["run_id"] / pointer["file"]

    @property
    def payload(self) -> dict[str, Any]:
        """Content of the newest checkpoint."""
        found: dict[str, Any] = torch.load(self.checkpoint, weights_only=True)
        return found

    @property
    def weights(self) -> dict[str, Tensor]:
        """Weights in the newest checkpoint, the memory bank among them."""
        found: dict[str, Tensor] = self.payload["state_dict"]
        return found


Run = Callable[..., Outcome]


@pytest.fixture(scope="session")
def shared_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One data folder for all tiny runs: tables, tokens and features are made once."""
    return tmp_path_factory.mktemp("shared") / "data"


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Leave the signal handlers as they were; Lightning goes on ignoring a Ctrl-C after one."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def run_tiny(wordy_folder: Path, shared_data: Path) -> Run:
    """Train the smoke profile on the tiny encoder in a folder; errors of ours are returned."""
    from naics_job.training.run import RunOptions, run_training

    def run(folder: Path, *overrides: str, ckpt_path: str | None = None) -> Outcome:
        own = ("log", "output", "checkpoint")
        dirs = [f"dirs.{name}_dir={folder / name}s" for name in own]
        base = (f"model.base_model_name={wordy_folder}", f"dirs.data_dir={shared_data}")
        loaded = load_config(None, "smoke", [*base, *dirs, *TINY, *overrides])
        error = None
        try:
            with handlers_kept():
                run_training(loaded, RunOptions(ckpt_path=ckpt_path))
        except NaicsJobError as raised:
            error = raised
        finally:
            unbind_all()
        return Outcome(folder, error)

    return run
