"""Store checkpoints behind the training thread: one at a time, the newest first.

A save is a snapshot on the local disk, made by the training thread, and its way into the run store,
made here. While one is on its way at most one other waits: a newer snapshot takes the place of a
waiting one, so a slow or unreachable store costs older checkpoints and neither disk nor time.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from naics_job.checkpoint.manifest import CheckpointFacts, CheckpointManifest
from naics_job.checkpoint.store import RunStore
from naics_job.errors import LeaseLostError, NaicsJobError, TransientError
from naics_job.observability.logs import event
from naics_job.storage.retry import jitter_s

log = logging.getLogger(__name__)
BASE_S, CAP_S = 2.0, 60.0  # longest first and longest later pause before a save is tried again
POLL_S = 0.2


@dataclass(frozen=True)
class Snapshot:
    """A state on the local disk; the uploader removes the file."""

    file: Path
    facts: CheckpointFacts


class Uploader:
    """Saves snapshots in a `RunStore` from a thread of its own.

    Attributes:
        newest: the newest checkpoint that was stored.
        stored_at, stored_in_s: when (monotonic clock), and how long that took.
        num_saved, num_failures, num_replaced: stored; failed tries; snapshots that a newer one
            replaced before they were stored.
        error: why no more is tried; set after `max_failures` failures in a row, or when another
            run has taken over.
    """

    def __init__(self, store: RunStore, max_failures: int) -> None:
        self.store, self.max_failures = store, max_failures
        self.newest: CheckpointManifest | None = None
        self.stored_at, self.stored_in_s = time.monotonic(), 0.0
        self.num_saved = self.num_failures = self.num_replaced = 0
        self.error: NaicsJobError | None = None
        self._in_a_row, self._rng = 0, random.Random()
        self._latest: NaicsJobError | None = None
        self._waiting: Snapshot | None = None
        self._busy = self._closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def num_queued(self) -> int:
        """Snapshots that wait or are on their way."""
        return int(self._waiting is not None) + int(self._busy)

    def submit(self, snapshot: Snapshot) -> None:
        """Hand over a snapshot; one that still waits is dropped for it."""
        with self._changed:
            if self._waiting is not None:
                self._replace(self._waiting)
            self._waiting = snapshot
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="uploader", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def note_failure(self, error: NaicsJobError) -> None:
        """Count a snapshot that could not even be made."""
        with self._changed:
            self._failed(error)

    def flush(self, seconds_left: Callable[[], float]) -> NaicsJobError | None:
        """Wait until what was handed over last is stored; returns why it is not.

        Args:
            seconds_left: asked again and again how long to wait still; `math.inf` waits as long as
                storing is tried.
        """
        with self._changed:
            while self.error is None and (self._waiting is not None or self._busy):
                left = seconds_left()
                if left <= 0:
                    reason = f": {self._latest.args[0]}" if self._latest is not None else ""
                    text = f"there was no time left to store the newest checkpoint{reason}"
                    return TransientError(text, "see whether its store can be reached")
                self._changed.wait(min(left, POLL_S))
            return self.error or self._latest

    def close(self) -> None:
        """Try nothing more; what is on its way now is not waited for."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _work(self) -> None:
        while (snapshot := self._take()) is not None:
            started, failure = time.monotonic(), None
            try:
                manifest = self.store.save(snapshot.file, snapshot.facts)
            except NaicsJobError as error:
                failure = error
            except Exception as error:  # a defect must not end the thread and go unseen
                log.exception("checkpoint.defect")
                failure = NaicsJobError(f"unexpected {type(error).__name__}: {error}")
            if failure is None:
                self._stored(snapshot, manifest, time.monotonic() - started)
            else:
                self._put_back(snapshot, failure)

    def _take(self) -> Snapshot | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting is not None)
            snapshot, self._waiting = self._waiting, None
            if self._closed or self.error is not None:
                return None
            self._busy = True
            return snapshot

    def _stored(self, snapshot: Snapshot, manifest: CheckpointManifest, seconds: float) -> None:
        snapshot.file.unlink(missing_ok=True)
        event(log, logging.INFO, "checkpoint.saved", step=manifest.step,
              megabytes=round(manifest.size_bytes / 1e6, 1), seconds=round(seconds, 2))  # fmt: skip
        with self._changed:
            self.newest, self._latest = manifest, None
            self.stored_at, self.stored_in_s = time.monotonic(), seconds
            self.num_saved += 1
            self._in_a_row, self._busy = 0, False
            self._changed.notify_all()

    def _put_back(self, snapshot: Snapshot, error: NaicsJobError) -> None:
        """Count the failure, pause, and let the snapshot wait again unless there is a newer one."""
        with self._changed:
            if self._closed:  # and its file is gone, perhaps
                return
            self._failed(error, snapshot.facts.step)
            pause_s = jitter_s(self._in_a_row, BASE_S, CAP_S, self._rng)
            self._changed.wait_for(
                lambda: self._closed or self.error is not None or self._waiting is not None, pause_s
            )
            if self._waiting is None:
                self._waiting = snapshot
            else:
                self._replace(snapshot)
            self._busy = False
            self._changed.notify_all()

    def _failed(self, error: NaicsJobError, step: int | None = None) -> None:
        self.num_failures += 1
        self._in_a_row += 1
        self._latest = error
        event(log, logging.WARNING, "checkpoint.failed", step=step, in_a_row=self._in_a_row,
              of=self.max_failures, error=str(error.args[0]))  # fmt: skip
        if self._in_a_row >= self.max_failures or isinstance(error, LeaseLostError):
            self.error = error
        self._changed.notify_all()

    def _replace(self, older: Snapshot) -> None:
        older.file.unlink(missing_ok=True)
        self.num_replaced += 1
        event(log, logging.WARNING, "checkpoint.replaced", step=older.facts.step,
              advice="storing takes too long for checkpoint.max_lost_steps")  # fmt: skip
