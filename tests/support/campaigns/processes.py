"""Start runs as processes of their own, follow their logs, and leave none behind."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

import naics_job
from campaigns.child import HOOKS

MARK = "CHAOS_PROCESS"  # in the environment of everything that descends from one start
PAUSE_S = 0.005
TAIL = 3000
SOURCES = Path(__file__).parents[1]  # tests/support
PRODUCT = Path(naics_job.__file__).parents[1]  # children run what this process has
LINE = re.compile(r"^\d\d:\d\d:\d\d (\w+) (?:\[rank \d+\] )?([\w.]+)(.*)$")


class StuckError(AssertionError):
    """Something that had to happen did not; the message ends with the tail of the log."""


@dataclass
class Started:
    """One command that was started."""

    pid: int
    log: Path
    code: Callable[[], int | None]  # exit code as `Popen.returncode`, None while it runs
    mark: str

    @property
    def text(self) -> str:
        """What it wrote so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def events(self) -> list[tuple[str, str]]:
        """(event, fields as text) of the log lines so far."""
        found = (LINE.match(line) for line in self.text.splitlines())
        return [(match[2], match[3]) for match in found if match]

    def wait(self, timeout_s: float) -> int:
        """The exit code. Raises `StuckError` after `timeout_s`, and kills it."""
        try:
            self.until(lambda: self.code() is not None, timeout_s, "the end of the process")
        except StuckError:
            self.kill()
            raise
        code = self.code()
        assert code is not None
        return code

    def until(self, happened: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Wait until `happened()`. Raises `StuckError` after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while not happened():
            if time.monotonic() > deadline:
                raise StuckError(f"waited {timeout_s:.0f} s for {what}\n{self.text[-TAIL:]}")
            time.sleep(PAUSE_S)

    def send(self, number: int) -> None:
        """Send a signal to the process that was started, and to no other."""
        with suppress(ProcessLookupError):
            if self.code() is None:
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL for it and everything that descends from it."""
        while alive := self.tree():
            for pid in alive:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(PAUSE_S)

    def tree(self) -> set[int]:
        """Processes that descend from the command, itself too; none after all have ended."""
        parents = _parents()
        found = {pid for pid in parents if _marked(pid, self.mark)}
        if self.code() is None:
            found.add(self.pid)
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return found & parents.keys()


def _parents() -> dict[int, int]:
    """Parent of each process that is alive; a zombie is not."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                state, parent = (entry / "stat").read_text().rpartition(") ")[2].split()[:2]
                if state not in "ZX":
                    found[int(entry.name)] = int(parent)
    return found


def _marked(pid: int, mark: str) -> bool:
    with suppress(OSError):
        return f"{MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return False


@dataclass
class Command:
    """What to start: arguments of `naics-embedder`, a folder of its own, its environment."""

    arguments: Sequence[str]
    folder: Path
    name: str = "run"
    environment: dict[str, str] = field(default_factory=dict)
    hooks: dict[str, Any] = field(default_factory=dict)

    def variables(self, mark: str) -> dict[str, str]:
        """The whole environment: of this process, without what belongs to another job."""
        foreign = ("AWS_", "PET_", "SLURM_", "COV_", "PYTEST_")
        own = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
            own.pop(name, None)
        scratch, home = self.folder / f"{self.name}-tmp", self.folder / f"{self.name}-home"
        for path in (scratch, home):
            path.mkdir(parents=True, exist_ok=True)
        paths = [str(SOURCES), str(PRODUCT), own.get("PYTHONPATH", "")]
        hooks = {HOOKS: json.dumps(self.hooks)} if self.hooks else {}
        return {
            **own,
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "lo",
            "TMPDIR": str(scratch),
            "HOME": str(home),
            MARK: mark,
            **hooks,
            **self.environment,
        }


class Processes:
    """Starts commands and kills, when the `with` block ends, what is still alive of them.

    Args:
        real: start an interpreter per run, instead of forking from one that has the imports.
    """

    def __init__(self, real: bool = False) -> None:
        self.real = real
        self._started: list[Started] = []
        self._zygote: _Zygote | None = None

    @property
    def kind(self) -> str:
        """How runs are started, for reports."""
        return "real processes" if self.real else "forks of one process"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for started in self._started:
            started.kill()
        if self._zygote is not None:
            self._zygote.close()

    def start(self, command: Command, module: Sequence[str] | None = None) -> Started:
        """Start `command`; `module` are the arguments of Python before those of the command.

        Without `module` the command runs alone in its process, which may be a fork.
        """
        number = len(self._started)
        mark = f"{os.getpid()}-{id(self)}-{number}"
        log = command.folder / f"{command.name}-{number:04d}.log"
        environment = command.variables(mark)
        if module is None and not self.real:
            started = self._fork(command, environment, log, mark)
        else:
            own = "campaigns.child" if command.hooks else "naics_job.cli.app"
            line = [sys.executable, *(module or ("-m", own)), *command.arguments]
            with log.open("wb") as output:
                process = subprocess.Popen(
                    line, cwd=command.folder, env=environment, start_new_session=True,
                    stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                )  # fmt: skip
            started = Started(process.pid, log, process.poll, mark)
        self._started.append(started)
        return started

    def _fork(self, command: Command, env: dict[str, str], log: Path, mark: str) -> Started:
        if self._zygote is None:
            self._zygote = _Zygote(command.folder / "zygote.log", env)
        zygote = self._zygote
        request = {"argv": list(command.arguments), "env": env, "cwd": str(command.folder)}
        pid = zygote.fork({**request, "log": str(log)})
        return Started(pid, log, lambda: zygote.codes.get(pid), mark)


class _Zygote:
    """The forking process and what it has told so far."""

    READY_S = 300.0

    def __init__(self, log: Path, environment: dict[str, str]) -> None:
        own = {k: v for k, v in environment.items() if k not in (MARK, HOOKS)}
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "campaigns.zygote"],
                env=own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                start_new_session=True,
            )  # fmt: skip
        self.codes: dict[int, int] = {}
        self._answers: list[dict[str, int]] = []
        self._told = threading.Condition()
        assert self._process.stdout is not None
        threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True).start()
        self._log = log
        self._next("ready", self.READY_S)

    def _listen(self, lines: IO[bytes]) -> None:
        for line in lines:
            answer = json.loads(line)
            with self._told:
                if "ended" in answer:
                    self.codes[answer["ended"]] = answer["status"]
                else:
                    self.codes.pop(answer.get("pid", 0), None)  # of an earlier child, long gone
                    self._answers.append(answer)
                self._told.notify_all()

    def fork(self, request: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return self._next("pid", 60.0)

    def _next(self, name: str, timeout_s: float) -> int:
        with self._told:
            if not self._told.wait_for(lambda: self._answers, timeout_s):
                tail = self._log.read_text(errors="replace")[-TAIL:]
                raise StuckError(f"the forking process does not answer\n{tail}")
            return self._answers.pop(0)[name]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
