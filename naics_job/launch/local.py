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
FOLLOWING = (UNEXPECTED, 75, 143)  # codes of processes that only lost the others
FORWARDED = (signal.SIGTERM, signal.SIGINT)


def run_processes(arguments: Sequence[str], num_processes: int) -> int:
    """Run `naics-embedder ARGUMENTS` in `num_processes` processes and return the exit code.

    SIGTERM and Ctrl-C go to the training processes, which save and end; torchrun, which would kill
    them, does not hear of it. The code is that of the process that failed, see `exit_code`.
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
    """The contract's code from what the processes left in `folder`.

    A process that loses its peers ends too, perhaps before the one that failed has said why: its
    code counts only when nobody has a better one.
    """
    files = sorted(folder.glob(f"*{CODE}"), key=lambda path: path.stat().st_mtime_ns)
    codes = [code for path in files if (code := int(path.read_text(encoding="utf-8"))) != 0]
    own = [code for code in codes if code not in FOLLOWING]
    if own or UNEXPECTED in codes:
        return own[0] if own else UNEXPECTED
    started = {path.stem for path in folder.glob(f"*{PID}")}
    if started - {path.stem for path in files}:
        return KILLED
    return codes[0] if codes else (torchrun_code and UNEXPECTED)


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
