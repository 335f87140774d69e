"""Start the processes of a run on this machine under torchrun; pass on signals and exit codes."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from naics_job.launch.worker import CODE, FOLDER_VARIABLE, PID

MODULE = "naics_job.cli.app"
KILLED = 137  # a process that left no code: killed from outside, most often for its memory
UNEXPECTED = 70
FORWARDED = (signal.SIGTERM, signal.SIGINT)


def run_processes(arguments: Sequence[str], num_processes: int) -> int:
    """Run `naics-embedder ARGUMENTS` in `num_processes` processes and return the exit code.

    SIGTERM and Ctrl-C go to the training processes, which save and end; torchrun, which would kill
    them, does not hear of it. The code is that of the process that ended first with one other than
    0: the others only follow it.
    """
    with TemporaryDirectory(prefix="naics-launch-") as name:
        folder = Path(name)
        threads = max(1, (os.cpu_count() or 1) // num_processes)
        environment = {"OMP_NUM_THREADS": str(threads), **os.environ, FOLDER_VARIABLE: name}
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *(f"--nproc-per-node={num_processes}", "-m", MODULE, *arguments),
        ]
        torchrun = subprocess.Popen(command, env=environment, start_new_session=True)
        with _forwarding(folder, torchrun):
            code = torchrun.wait()
        return exit_code(folder, code)


def exit_code(folder: Path, torchrun_code: int) -> int:
    """The contract's code from what the processes left in `folder`."""
    codes = sorted(folder.glob(f"*{CODE}"), key=lambda path: path.stat().st_mtime_ns)
    for path in codes:
        if (code := int(path.read_text(encoding="utf-8"))) != 0:
            return code
    if torchrun_code == 0:
        return 0
    started = {path.stem for path in folder.glob(f"*{PID}")}
    return KILLED if started - {path.stem for path in codes} else UNEXPECTED


@contextmanager
def _forwarding(folder: Path, torchrun: "subprocess.Popen[bytes]") -> Iterator[None]:
    def forward(number: int, frame: FrameType | None) -> None:
        pids = [int(path.read_text(encoding="utf-8")) for path in folder.glob(f"*{PID}")]
        for pid in pids or [torchrun.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    previous = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
