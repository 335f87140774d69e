"""What a training process leaves for the launcher that started it: its pid, then its exit code.

torchrun answers 1 to every failure of a worker, so the codes of the contract travel in files.
"""

import faulthandler
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from naics_job.observability.heartbeat import (
    BEAT,
    FOLDER_VARIABLE,
    local_name,
    write_whole,
)

PID, CODE = ".pid", ".code"
LAUNCHER_GONE = 75
DUMP_SIGNAL = signal.SIGUSR1


@contextmanager
def reported_to_launcher() -> Iterator[None]:
    """Report this process for the length of the body; without a launcher, do nothing.

    The body ends with SystemExit or returns; any other exception is left without a code. The
    launcher may ask for the stacks of all threads, which go to stderr even when Python hangs in C.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        yield
        return
    if not Path(folder).is_dir():  # it was started while the launcher was being ended
        sys.stderr.write(f"error: the launcher of this process is gone ({FOLDER_VARIABLE})\n")
        sys.exit(LAUNCHER_GONE)
    own = Path(folder) / local_name()
    for suffix in (CODE, BEAT):  # of a process that torchrun replaced by this one
        own.with_suffix(suffix).unlink(missing_ok=True)
    if sys.__stderr__ is not None:
        faulthandler.register(DUMP_SIGNAL, file=sys.__stderr__, all_threads=True)
    write_whole(own.with_suffix(PID), str(os.getpid()))
    code: object = None
    try:
        yield
        code = 0
    except SystemExit as error:
        code = error.code or 0
        raise
    finally:
        if isinstance(code, int):
            write_whole(own.with_suffix(CODE), str(code))
