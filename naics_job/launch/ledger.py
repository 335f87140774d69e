"""The starts of an experiment and how each ended, kept in its checkpoint folder.

Whoever restarts a failed job does not know whether a restart can help. The ledger does: starts
that all ended badly, with the same settings, and from a checkpoint that never got newer, will go on
doing so. A preemption is no failure, and a start without an end was killed.
"""

import json
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from naics_job.checkpoint.catalogue import Catalogue
from naics_job.checkpoint.manifest import step_of, timestamp
from naics_job.errors import NaicsJobError
from naics_job.observability.logs import event
from naics_job.storage import files

log = logging.getLogger(__name__)
FILE = "starts.json"
KEPT = 100  # newest starts
GOOD, PREEMPTED = 0, (130, 143)
PATIENCE_S = 5.0  # for noting an end: the grace period may be nearly over


@dataclass(frozen=True, kw_only=True)
class Start:
    """One start: when, from where, with which settings, and how it ended."""

    time: str
    run_id: str | None  # of the newest checkpoint; after the end, of the run that was trained
    step: int  # of the newest checkpoint at the start, 0 without one
    config_hash: str
    exit_code: int | None = None  # None until it ends


class Ledger:
    """Reads and writes the ledger. Storage trouble is a warning: the run matters more."""

    def __init__(self, root_url: str, progress_roots: Sequence[str]) -> None:
        """Keep the ledger of `root_url`; progress is made in any of `progress_roots`."""
        self.url = files.join(root_url, FILE)
        self.progress_roots = progress_roots
        self.starts: list[Start] = []

    def begin(self, config_hash: str, limit: int) -> None:
        """Note a start.

        Raises:
            NaicsJobError: the newest `limit` starts failed without progress; nothing is noted.
        """
        try:
            self.starts = self._read()
            newest = [found for root in self.progress_roots if (found := _newest(root))]
        except NaicsJobError as error:
            _warn("read", self.url, error)
            return
        step = sum(step for _, step in newest)
        run_id = newest[-1][0] if newest else None
        start = Start(time=timestamp(), run_id=run_id, step=step, config_hash=config_hash)
        self._refuse(failed_in_a_row(self.starts, start), limit)
        self.starts = [*self.starts[-KEPT + 1 :], start]
        self._write()

    def end(self, exit_code: int, run_id: str | None) -> None:
        """Note how the start ended; gives up after a few seconds."""
        if not self.starts or self.starts[-1].exit_code is not None:
            return  # it was not noted
        start = self.starts[-1]
        self.starts[-1] = replace(start, exit_code=exit_code, run_id=run_id or start.run_id)
        if not _within(PATIENCE_S, self._write):
            event(log, logging.WARNING, "ledger.failed", action="write", url=self.url,
                  reason=f"took longer than {PATIENCE_S:g} s")  # fmt: skip

    def _refuse(self, failed: Sequence[Start], limit: int) -> None:
        if limit == 0 or len(failed) < limit:
            return
        codes = ", ".join("killed" if s.exit_code is None else str(s.exit_code) for s in failed)
        raise NaicsJobError(
            f"the last {len(failed)} starts failed with codes {codes} and got no further than "
            f"step {failed[-1].step}: another start would fail too",
            f"mend the cause, see the messages of those starts; other settings count anew, else "
            f"delete {self.url} to start again, or raise launch.max_failed_starts",
        )

    def _read(self) -> list[Start]:
        if not files.exists(self.url):
            return []
        try:
            rows: list[dict[str, Any]] = json.loads(files.read_bytes(self.url))["starts"]
            return [_checked(Start(**row)) for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            reason = f"{type(error).__name__}: {error}"
            event(log, logging.WARNING, "ledger.damaged", url=self.url, reason=reason)
            return []  # it is written anew

    def _write(self) -> None:
        rows = [asdict(start) for start in self.starts]
        try:
            data = json.dumps({"starts": rows}, indent=2).encode() + b"\n"
            files.write_bytes_atomic(self.url, data)
        except NaicsJobError as error:
            _warn("write", self.url, error)


def failed_in_a_row(starts: Sequence[Start], now: Start) -> list[Start]:
    """The newest starts, oldest first, that ended badly and led to nothing that `now` starts from.

    Preemptions neither count nor break the row.
    """
    row: list[Start] = []
    for start in reversed(starts):
        same = start.config_hash == now.config_hash and start.step >= now.step
        if start.exit_code == GOOD or not same:
            break
        if start.exit_code not in PREEMPTED:
            row.append(start)
    return row[::-1]


def _newest(root_url: str) -> tuple[str, int] | None:
    """Run and step of the newest checkpoint as the pointer names it, None without one."""
    pointed = Catalogue(root_url).read_pointer()
    if pointed is None:
        return None
    run_id, file = pointed
    step = step_of(file)
    return None if step is None else (run_id, step)


def _checked(start: Start) -> Start:
    if type(start.step) is not int or not isinstance(start.exit_code, int | None):
        raise TypeError(f"a start of step {start.step!r} with exit code {start.exit_code!r}")
    return start


def _within(seconds: float, action: Callable[[], None]) -> bool:
    """Run `action` in a thread and wait so long for it; returns whether it has ended."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


def _warn(action: str, url: str, error: NaicsJobError) -> None:
    reason = str(error.args[0])
    event(log, logging.WARNING, "ledger.failed", action=action, url=url, reason=reason)
