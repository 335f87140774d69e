"""Notice a training process that shows no life any more; others then wait for it without end."""

import time
from collections.abc import Callable
from pathlib import Path

from naics_job.launch.worker import CODE
from naics_job.observability.heartbeat import BEAT

ALMOST = 0.9


class Watchdog:
    """Compares the beats in the folder of a launch with this process's own clock.

    A process is watched from its first beat until it rests or ends, see `heartbeat`. Only whether
    the time of a file has changed counts, so a clock that is set does no harm.
    """

    def __init__(
        self, folder: Path, timeout_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.folder, self.timeout_s, self.clock = folder, timeout_s, clock  # 0: switched off
        self._seen: dict[str, tuple[int, float]] = {}  # process -> time of its file, when seen
        self._checked = clock()

    def stalled(self) -> list[str]:
        """Names of the processes without a beat, once one lacks it for longer than the limit.

        Who waits for a frozen process stops a moment before or after it, so those close to the
        limit are named too.
        """
        if self.timeout_s == 0:
            return []
        now = self.clock()
        if now - self._checked > self.timeout_s / 2:  # we were frozen, and so perhaps were they
            self._seen.clear()
        self._checked = now
        beats = dict(self._beats())
        self._seen = {name: seen for name, seen in self._seen.items() if name in beats}
        for name, changed in beats.items():
            if name not in self._seen or self._seen[name][0] != changed:
                self._seen[name] = changed, now
        ages = {name: now - at for name, (_, at) in self._seen.items()}
        if max(ages.values(), default=0.0) <= self.timeout_s:
            return []
        return sorted(name for name, age in ages.items() if age > ALMOST * self.timeout_s)

    def _beats(self) -> list[tuple[str, int]]:
        found = []
        for path in self.folder.glob(f"*{BEAT}"):
            if path.with_suffix(CODE).exists():
                continue
            try:
                found.append((path.stem, path.stat().st_mtime_ns))
            except FileNotFoundError:  # it rests since the listing
                continue
        return found
