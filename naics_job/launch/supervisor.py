"""Run torchrun and its processes to their end: signals, orphans, stalls, leftovers.

torchrun answers a signal by killing what it started, so it does not hear of one: the training
processes do, which save and end, and torchrun ends after them.
"""

import logging
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from naics_job.launch.signals import StopRequest
from naics_job.launch.watchdog import Watchdog
from naics_job.launch.worker import CODE, DUMP_SIGNAL, PID
from naics_job.observability.logs import event

log = logging.getLogger(__name__)
TICK_S = 0.1
DUMP_S = 2.0  # for writing the stacks of a stalled process


@dataclass(frozen=True)
class Ending:
    """How the processes came to their end.

    Attributes:
        stalled: names of the processes that showed no life; all were killed then.
        overdue: whether the grace period was over before they had ended.
    """

    stalled: tuple[str, ...] = ()
    overdue: bool = False


class Supervisor:
    """Starts one torchrun and watches over it and the processes that report in `folder`."""

    def __init__(
        self, folder: Path, request: StopRequest, watchdog: Watchdog, grace_s: float
    ) -> None:
        self.folder, self.request, self.watchdog = folder, request, watchdog
        self.grace_s = grace_s
        self._told: set[int] = set()  # pids that know of the newest request
        self._num_interrupts = 0

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> Ending:
        """Start `command` and return when it and all processes have ended.

        A request to stop, which ended this process until now, is from now on passed on. Raises
        SystemExit if one came before.
        """
        self.request.at_once = False
        if self.request.code is not None:
            raise SystemExit(self.request.code)
        torchrun = subprocess.Popen(command, env=environment, start_new_session=True)
        try:
            return self._watch(torchrun)
        finally:
            self._end_leftovers(torchrun)

    def _watch(self, torchrun: "subprocess.Popen[bytes]") -> Ending:
        while True:
            reap_orphans(torchrun.pid)
            if torchrun.poll() is not None:
                return Ending()
            if self.request.number is None:
                if stalled := self.watchdog.stalled():
                    self._kill_stalled(stalled)
                    return Ending(stalled=tuple(stalled))
            elif time.monotonic() - self.request.at > self.grace_s:
                event(log, logging.ERROR, "launch.overdue", grace_s=self.grace_s)
                return Ending(overdue=True)
            else:
                self._pass_on(self.request.number, torchrun)
            time.sleep(TICK_S)

    def _pass_on(self, number: int, torchrun: "subprocess.Popen[bytes]") -> None:
        """Tell every process once, also one that reports after the signal came."""
        if self.request.num_interrupts > self._num_interrupts:  # each Ctrl-C counts
            self._num_interrupts = self.request.num_interrupts
            self._told.clear()
        running = set(self._running().values())
        began = any(self.folder.glob(f"*{PID}"))
        if not began and torchrun.pid not in self._told:
            running = {torchrun.pid}  # nothing to save: it ends what it has started, and itself
        fresh = running - self._told
        self._told |= fresh
        if fresh:
            event(log, logging.INFO, "launch.signal", signal=signal.Signals(number).name,
                  processes=len(fresh) if began else 0)  # fmt: skip
        _send(number, fresh)

    def _kill_stalled(self, stalled: list[str]) -> None:
        """Ask every process for its stacks, then kill it. A frozen one is woken to write them.

        One after the other: all write to the same place, and would mix up their lines.
        """
        pids = sorted(set(self._running().values()))
        event(log, logging.ERROR, "launch.stalled", processes=",".join(stalled))
        for pid in pids:
            _send(DUMP_SIGNAL, [pid])
            _send(signal.SIGCONT, [pid])
            time.sleep(DUMP_S / len(pids))
        _send(signal.SIGKILL, pids)

    def _end_leftovers(self, torchrun: "subprocess.Popen[bytes]") -> None:
        """Leave nothing running: torchrun may have been killed, or not have ended in time."""
        overdue = self.request.number is not None and torchrun.poll() is None
        deadline = time.monotonic() + (0 if overdue else self.grace_s)
        _send(signal.SIGTERM, set() if overdue else self._left(torchrun))
        while running := self._left(torchrun):
            if time.monotonic() > deadline:
                _send(signal.SIGKILL, running)
            time.sleep(TICK_S)
            reap_orphans(torchrun.pid)

    def _left(self, torchrun: "subprocess.Popen[bytes]") -> set[int]:
        pids = set(self._running().values())
        return pids if torchrun.poll() is not None else pids | {torchrun.pid}

    def _running(self) -> dict[str, int]:
        """Pids of the processes that have begun and not said their code, by name."""
        found = {}
        for path in self.folder.glob(f"*{PID}"):
            pid = int(path.read_text(encoding="utf-8"))
            if not path.with_suffix(CODE).exists() and _is_alive(pid):
                found[path.stem] = pid
        return found


def reap_orphans(torchrun_pid: int) -> None:
    """Collect processes that lost their parent; as the first of a container we inherit them.

    The status of torchrun is left for its own `poll`.
    """
    if os.getpid() != 1:
        return
    with suppress(ChildProcessError):
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT  # look, do not take
        while (found := os.waitid(os.P_ALL, 0, options)) is not None:
            if found.si_pid == torchrun_pid:
                return  # it ends now; what is left is ours no longer
            os.waitpid(found.si_pid, os.WNOHANG)


def _is_alive(pid: int) -> bool:
    """Whether the process runs; one that ended and waits to be collected does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        if Path("/proc/self/stat").exists():
            return False
        with suppress(ProcessLookupError):  # a system without /proc
            os.kill(pid, 0)
            return True
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def _send(number: int, pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
