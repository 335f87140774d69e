"""A process that has imported what training needs, and forks one run per request.

Importing takes longer than a small run. `python -m campaigns.zygote` answers on stdout, a JSON
object per line, to requests on stdin: {"argv", "env", "cwd", "log"} is answered by {"pid"}; the end
of a child is told by {"ended", "status"}. It ends, with its children, when stdin does.

A child is what a fresh process would be but for the imports: no thread but this one exists at the
fork, and the random generators of Python start anew in a child by themselves.
"""

import importlib
import json
import os
import select
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

IMPORTED = (
    "torch.utils.tensorboard",
    "lightning.pytorch",
    "transformers.models.bert.modeling_bert",
    "peft",
    "pyarrow.parquet",
    "s3fs",
    "naics_job.cli.app",
    "naics_job.training.run",
    "campaigns.child",
)
NATIVE = {"jemalloc_bg_thd"}  # of pyarrow's allocator, which is made for forks


def main() -> None:
    """Serve until stdin ends; in a child, be the run."""
    for name in IMPORTED:
        importlib.import_module(name)
    _require_one_thread()
    if request := _serve():
        _become(request)

        from campaigns.child import run

        run()


def _require_one_thread() -> None:
    tasks = Path("/proc/self/task").iterdir()
    names = [(task / "comm").read_text().strip() for task in tasks if int(task.name) != os.getpid()]
    if others := set(names) - NATIVE:
        raise SystemExit(f"cannot fork beside the threads {sorted(others)}")


def _serve() -> dict[str, Any] | None:
    """None after the end of stdin in the zygote, the request in a child."""
    wake_read, wake_write = os.pipe()
    for end in (wake_read, wake_write):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: set[int] = set()
    pending = b""
    _answer({"ready": os.getpid()})
    while True:
        ready, _, _ = select.select([0, wake_read], [], [])
        if wake_read in ready:
            os.read(wake_read, 4096)
            _reap(children)
        if 0 not in ready:
            continue
        data = os.read(0, 1 << 16)
        if not data:
            _end(children)
            return None
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                os.close(wake_read)
                os.close(wake_write)
                return dict(json.loads(line))
            children.add(pid)
            _answer({"pid": pid})


def _reap(children: set[int]) -> None:
    for pid in list(children):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            children.discard(pid)
            _answer({"ended": pid, "status": os.waitstatus_to_exitcode(status)})


def _end(children: set[int]) -> None:
    for pid in children:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def _answer(fields: dict[str, int]) -> None:
    os.write(1, json.dumps(fields).encode() + b"\n")


def _become(request: dict[str, Any]) -> None:
    """Turn this fork into what `Popen` with these arguments would have started."""
    os.setsid()
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    tempfile.tempdir = None  # TMPDIR is the child's own
    sys.argv = ["naics-embedder", *request["argv"]]


if __name__ == "__main__":
    main()
