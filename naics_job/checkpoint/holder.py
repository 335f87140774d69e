"""Who holds a lease, and whether that process is known to be gone.

Only a process of the same kernel and the same pid namespace can be looked for. A container that
was restarted in place keeps its host name and starts its pids anew, and pods on the host's network
share one name, so neither name nor pid says anything there: such a holder is watched instead.
"""

import functools
import os
import socket
from dataclasses import dataclass
from pathlib import Path

STATE, START = 0, 19  # fields of /proc/<pid>/stat after the name of the program


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A process, told apart from every other one of any machine; "" and -1 are unknown."""

    host: str
    boot: str  # id that the kernel drew when it started
    namespace: str  # of pids
    pid: int
    started: int  # clock ticks since the kernel started

    def is_gone(self) -> bool:
        """Tell whether the process has certainly ended; False where that cannot be known."""
        here = this_process()
        if "" in (self.boot, self.namespace) or self.started < 0:
            return False
        if (self.boot, self.namespace) != (here.boot, here.namespace):
            return False
        return _start_of(self.pid) != self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def this_process() -> Holder:
    """Return this process as a holder."""
    return _describe(os.getpid())


@functools.lru_cache(maxsize=1)  # asked anew in a forked child
def _describe(pid: int) -> Holder:
    started = _start_of(pid)
    return Holder(
        host=socket.gethostname(),
        boot=_text("/proc/sys/kernel/random/boot_id"),
        namespace=_link("/proc/self/ns/pid"),
        pid=pid,
        started=-1 if started is None else started,
    )


def _start_of(pid: int) -> int | None:
    """When a process started, in clock ticks, None when it has ended, a zombie too."""
    fields = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[START]) if fields and fields[STATE] not in ("Z", "X") else None


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
