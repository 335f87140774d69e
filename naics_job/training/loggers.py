"""Where metrics go: TensorBoard event files and one JSON object per line."""

import json
import math
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from naics_job.errors import ConfigError

METRICS_FILE = "metrics.jsonl"


class JsonLinesLogger(Logger):
    """Appends `{"step": ..., name: value, ...}` to a file; numbers that JSON lacks become null."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @property
    def name(self) -> str:
        return "jsonl"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kw: Any) -> None:
        """Settings are in the run record and the saved configuration, not here."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        values = {name: float(value) for name, value in metrics.items() if name != "epoch"}
        row = {name: value if math.isfinite(value) else None for name, value in values.items()}
        with self.path.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"step": step, **row}) + "\n")


def build_loggers(log_dir: str, experiment_name: str, run_id: str) -> list[Logger]:
    """TensorBoard and JSON-lines loggers below `<log_dir>/<experiment_name>/<run_id>`.

    Raises:
        ConfigError: the folder cannot be written.
    """
    folder = Path(log_dir) / experiment_name / run_id
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / METRICS_FILE).touch()
    except OSError as error:
        raise ConfigError(
            f"cannot write metrics to {folder}: {error.strerror}",
            "set dirs.log_dir to a folder this user can write",
        ) from error
    board = TensorBoardLogger(save_dir=folder, name="", version="")
    return [board, JsonLinesLogger(folder / METRICS_FILE)]
