"""How a launch ended: the code of the contract, from what the training processes left."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from naics_job.checkpoint.catalogue import Catalogue
from naics_job.errors import UNEXPECTED, TransientError
from naics_job.launch.worker import CODE, PID
from naics_job.observability.heartbeat import RUN, SUMMARY
from naics_job.observability.logs import event

log = logging.getLogger(__name__)
KILLED = 137  # a process that left no code: killed from outside, most often for its memory
TRANSIENT = TransientError.exit_code
FOLLOWING = (UNEXPECTED, TRANSIENT, 143)  # codes of processes that only lost the others


@dataclass(frozen=True)
class Left:
    """What the processes of this machine left behind.

    Attributes:
        failures: codes other than 0, in the order of their time.
        num_finished: processes that said 0.
        num_silent: processes that began, and are gone without a word.
    """

    failures: tuple[int, ...]
    num_finished: int
    num_silent: int

    @property
    def num_started(self) -> int:
        """Processes that began."""
        return len(self.failures) + self.num_finished + self.num_silent


def left_in(folder: Path) -> Left:
    """Read what the processes left in `folder`."""
    files = sorted(folder.glob(f"*{CODE}"), key=lambda path: path.stat().st_mtime_ns)
    codes = [int(path.read_text(encoding="utf-8")) for path in files]
    started = {path.stem for path in folder.glob(f"*{PID}")}
    failures = tuple(code for code in codes if code != 0)
    return Left(failures, codes.count(0), len(started - {path.stem for path in files}))


def exit_code(left: Left, num_processes: int, asked: int | None, alone: bool) -> int:
    """The contract's code; 0 only when every process said 0.

    A process that loses its peers ends too, perhaps before the one that failed has said why: its
    code counts only when nobody has a better one.

    Args:
        left: see `left_in`.
        num_processes: that should have run on this machine.
        asked: 143 or 130 when the launcher was asked to stop, else None.
        alone: whether the run stays on this machine. With others, processes that never began mean
            that the machines did not find each other, and another try may do better.
    """
    silent = left.num_silent > 0 or left.num_started < num_processes
    best = next((code for code in left.failures if code not in FOLLOWING), None)
    if best is None and asked is not None and silent:  # it hit them before they could handle it
        best = asked
    if best is None and UNEXPECTED in left.failures:
        best = UNEXPECTED
    if best is None and left.num_silent:
        best = KILLED
    if best is None and left.failures:
        best = left.failures[0]
    if best is None and silent:
        best = UNEXPECTED if alone else TRANSIENT
    return best or 0


def trained_run(folder: Path) -> tuple[str, str] | None:
    """Checkpoint folder and id of the run that the processes trained last, None if none began."""
    notes = sorted(folder.glob(f"*{RUN}"), key=lambda path: path.stat().st_mtime_ns)
    if not notes:
        return None
    root, _, run_id = notes[-1].read_text(encoding="utf-8").rpartition("\n")
    return root, run_id


def summary_in(folder: Path) -> dict[str, Any]:
    """What the first process of the run told of its end, empty when it did not run here."""
    for path in folder.glob(f"*{SUMMARY}"):
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    return {}


def missing_marker(folder: Path) -> str:
    """Why the run that the processes call finished is not; empty when it is.

    Raises:
        CheckpointError: the marker is damaged.
        TransientError: storage cannot be asked.
    """
    run = trained_run(folder)
    if run is None:
        return "no process has told which run it trained"
    root, run_id = run
    catalogue = Catalogue(root)
    if catalogue.read_finished(run_id) is not None:
        return ""
    return f"{catalogue.url(run_id)} holds no marker of a finished run"


def tell(left: Left, num_processes: int, code: int, error: str | None) -> None:
    """Log how the processes ended, unless all finished.

    `error`, the reason that the run told, is above torchrun's own report by then: it comes again.
    """
    if code == 0:
        return
    fields = dict(_counts(left, num_processes))
    if error:
        fields["error"] = error.partition("\n")[0]
    event(log, logging.WARNING, "launch.ended", exit_code=code, **fields)


def _counts(left: Left, num_processes: int) -> Iterator[tuple[str, object]]:
    yield "codes", ",".join(str(code) for code in left.failures) or "none"
    if left.num_silent:
        yield "ended_without_a_code", left.num_silent
    if left.num_started < num_processes:
        yield "never_began", num_processes - left.num_started
