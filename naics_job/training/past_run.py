"""What a run left behind: its record and the metrics it logged."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from naics_job.config.schema import Config
from naics_job.errors import DataError
from naics_job.storage.files import exists, join, list_dir, read_bytes
from naics_job.training.loggers import METRICS_FILE
from naics_job.training.record import record_url

TRAIN_FIRST = "train first: naics-embedder train, or name the run's experiment_name and dirs.*"
PHASE = "curriculum/phase"


@dataclass(frozen=True)
class Series:
    """One metric over optimizer steps."""

    steps: npt.NDArray[np.int64]  # ascending, each once
    values: npt.NDArray[np.float64]


@dataclass(frozen=True)
class PhaseBand:
    """Steps of one SADC phase, both ends included."""

    phase: int
    first_step: int
    last_step: int


@dataclass(frozen=True)
class PastRun:
    """A run that has ended or is under way."""

    run_id: str
    record: dict[str, Any]  # run_record.json; empty when it is not this run's
    series: dict[str, Series]  # by the name it was logged under

    @property
    def baseline(self) -> dict[str, dict[str, float]]:
        """Metrics of the frozen encoder: "all" and "heldout" by name; empty when unknown."""
        found: dict[str, dict[str, float]] = self.record.get("baseline", {})
        return found

    @property
    def bands(self) -> list[PhaseBand]:
        """Phases in order: of the record, or as far as they were logged."""
        recorded = [
            PhaseBand(int(span["phase"]), int(span["first_step"]), int(span["last_step"]))
            for span in self.record.get("phases", [])
        ]
        if recorded:
            return recorded
        if PHASE not in self.series:
            return []
        steps, phases = self.series[PHASE].steps, self.series[PHASE].values
        starts = np.flatnonzero(np.diff(phases, prepend=np.nan) != 0)
        ends = np.append(starts[1:] - 1, len(steps) - 1)
        pairs = zip(starts.tolist(), ends.tolist(), strict=True)
        return [PhaseBand(int(phases[a]), int(steps[a]), int(steps[b])) for a, b in pairs]


def read_record(config: Config) -> dict[str, Any]:
    """The record of the experiment's last run that ended, empty when there is none.

    Raises:
        DataError: the file is not a run record.
    """
    url = record_url(config)
    if not exists(url):
        return {}
    try:
        record = json.loads(read_bytes(url))
    except ValueError as error:
        raise DataError(f"{url} is not JSON: {error}", TRAIN_FIRST) from error
    if not isinstance(record, dict) or "run_id" not in record:
        raise DataError(f"{url} is not a run record", TRAIN_FIRST)
    return record


def open_past_run(config: Config) -> PastRun:
    """The run that the experiment's record names, else the newest that logged anything.

    Raises:
        DataError: the experiment has logged nothing, or the log is damaged.
    """
    record, folder = read_record(config), join(config.dirs.log_dir, config.experiment_name)
    logged = run_ids(folder)
    if not logged:
        raise DataError(f"no run has logged metrics below {folder}", TRAIN_FIRST)
    named = str(record.get("run_id", ""))
    run_id = named if named in logged else logged[-1]
    series = read_series(join(folder, run_id, METRICS_FILE))
    return PastRun(run_id, record if run_id == named else {}, series)


def run_ids(folder: str) -> list[str]:
    """Runs with a metrics file below `folder`, oldest first (run ids start with the time)."""
    if not exists(folder):
        return []
    names = sorted(name.rstrip("/").rsplit("/", 1)[-1] for name in list_dir(folder))
    return [name for name in names if exists(join(folder, name, METRICS_FILE))]


def read_series(url: str) -> dict[str, Series]:
    """Metrics by name; of a step that a resumed run took twice, the later value counts.

    Raises:
        DataError: a line other than the last, which may be half written, is not a JSON object.
    """
    lines = read_bytes(url).decode("utf-8", errors="replace").splitlines()
    points: dict[str, dict[int, float]] = {}
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            step = int(row.pop("step"))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if number == len(lines):
                break
            raise DataError(f"{url} line {number} is not a row of metrics", TRAIN_FIRST) from error
        for name, value in row.items():
            points.setdefault(name, {})[step] = float("nan") if value is None else float(value)
    return {name: _series(found) for name, found in points.items()}


def _series(points: dict[int, float]) -> Series:
    steps = sorted(points)
    return Series(np.array(steps, dtype=np.int64), np.array([points[step] for step in steps]))
