"""A launcher over fake processes: signals, stalls, orphans, and what it leaves behind.

Everything runs in processes of its own, without torch: a script that supervises, below it one that
stands for torchrun, below that what stands for training.
"""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

LAUNCHER = """
    import os, sys
    from pathlib import Path
    from naics_job.launch.signals import stop_requests
    from naics_job.launch.supervisor import Supervisor
    from naics_job.launch.outcome import exit_code, left_in
    from naics_job.launch.watchdog import Watchdog
    folder, stall, grace = Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    with stop_requests() as request:
        supervisor = Supervisor(folder, request, Watchdog(folder, stall), grace)
        command = [sys.executable, *sys.argv[4:]]
        ending = supervisor.run(command, {**os.environ, "NAICS_LAUNCH_DIR": str(folder)})
        assert "torch" not in sys.modules
        print("stalled:" + ",".join(ending.stalled), "overdue:" + str(ending.overdue))
        code = exit_code(left_in(folder), 2, request.code, alone=True)
    sys.exit(75 if ending.stalled else code)
"""
TORCHRUN = """
    import os, subprocess, sys
    workers = [
        subprocess.Popen([sys.executable, sys.argv[1]], env={**os.environ, "LOCAL_RANK": str(n)},
                         start_new_session=True)
        for n in range(2)
    ]
    sys.exit(max(abs(worker.wait()) for worker in workers) and 1)
"""
WORKER = """
    import os, signal, sys, time
    from naics_job.launch.worker import reported_to_launcher
    from naics_job.observability.heartbeat import beat
    def train(number=None):
        told = []
        signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
        open(os.environ["NAICS_LAUNCH_DIR"] + "/ready" + os.environ["LOCAL_RANK"], "x").close()
        {body}
    with reported_to_launcher():
        train()
"""
SAVES = """
        while not told:
            beat()
            time.sleep(0.02)
        time.sleep(0.5)  # a second signal comes meanwhile
        sys.exit(143)
"""
IGNORES = """
        while True:
            beat()
            time.sleep(0.05)
"""


class Launch:
    """A launcher that runs. It writes to files: a pipe would stay open as long as a leftover."""

    def __init__(self, process: "subprocess.Popen[bytes]", folder: Path) -> None:
        self.process, self.folder = process, folder
        self.workers: list[int] = []

    def wait_for_workers(self, count: int = 2) -> None:
        while len(list(self.folder.glob("ready*"))) < count:
            assert self.process.poll() is None, self.text("err")
            time.sleep(0.02)
        self.workers = [int((self.folder / f"{n}.pid").read_text()) for n in range(count)]

    def text(self, stream: str) -> str:
        return (self.folder.parent / stream).read_text()

    def finish(self) -> tuple[int, str, str]:
        self.process.wait(timeout=60)
        for pid in self.workers:
            assert not alive(pid)
        return self.process.returncode, self.text("out"), self.text("err")


Start = Callable[..., Launch]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def descendants_in(folder: Path) -> list[int]:
    """Processes that report in the folder; never by the pids there, which may be of a namespace."""
    mark = f"NAICS_LAUNCH_DIR={folder}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a launcher whose workers have this body."""
    launches: list[Launch] = []

    def begin(
        body: str,
        *,
        stall: float = 0,
        grace: float = 20,
        torchrun: str = TORCHRUN,
        prefix: str = "",
    ) -> Launch:
        texts = {
            "launcher": LAUNCHER,
            "torchrun": torchrun,
            "worker": WORKER.replace("{body}", body.strip()),
        }
        for name, text in texts.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        folder = tmp_path / "launch"
        folder.mkdir()
        with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
            process = subprocess.Popen(
                [
                    *(*prefix.split(), sys.executable, tmp_path / "launcher.py", folder),
                    *(str(stall), str(grace), tmp_path / "torchrun.py", tmp_path / "worker.py"),
                ],
                stdout=out,
                stderr=err,
            )
        launches.append(Launch(process, folder))
        return launches[-1]

    yield begin
    for launch in launches:
        for pid in (launch.process.pid, *descendants_in(launch.folder)):
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        launch.process.wait()


def test_sigterm_reaches_the_workers_and_a_second_one_does_no_harm(start: Start) -> None:
    launch = start(SAVES)
    launch.wait_for_workers()
    launch.process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    launch.process.send_signal(signal.SIGTERM)
    assert launch.finish()[0] == 143


def test_sigterm_before_any_worker_reports(start: Start, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    slow = f"import pathlib, time\npathlib.Path({str(begun)!r}).touch()\ntime.sleep(60)\n"
    launch = start("", torchrun=slow)
    while not begun.exists():
        time.sleep(0.02)
    launch.process.send_signal(signal.SIGTERM)
    assert launch.finish()[0] == 143


def test_a_worker_that_reports_after_the_signal_is_told_too(start: Start) -> None:
    late = TORCHRUN.replace("for n in range(2)", "for n in range(2) if not n or not wait(8)")
    late = late.replace("import os,", "from time import sleep as wait\n    import os,")
    launch = start(SAVES, torchrun=late)
    launch.wait_for_workers(1)
    launch.process.send_signal(signal.SIGTERM)
    launch.wait_for_workers(2)
    assert launch.finish()[0] == 143


def test_the_grace_period_ends_what_does_not_end(start: Start) -> None:
    launch = start(IGNORES, grace=1)
    launch.wait_for_workers()
    launch.process.send_signal(signal.SIGTERM)
    code, out, _ = launch.finish()
    assert code == 143
    assert "overdue:True" in out


def test_workers_of_a_torchrun_that_was_killed_are_asked_to_stop(start: Start) -> None:
    launch = start(SAVES)
    launch.wait_for_workers()
    os.kill(parent_of(launch.workers[0]), signal.SIGKILL)
    assert launch.finish()[0] == 143


def test_a_frozen_worker_is_found_and_all_write_their_stacks(start: Start) -> None:
    launch = start(IGNORES, stall=3)
    launch.wait_for_workers()
    time.sleep(0.3)  # for the first beat
    os.kill(launch.workers[1], signal.SIGSTOP)
    code, out, err = launch.finish()
    assert code == 75
    assert "stalled:1" in out
    assert err.count("most recent call first") == 2
    assert err.count("in train") == 2


def test_a_killed_worker(start: Start) -> None:
    launch = start("os.kill(os.getpid(), 9)")
    launch.wait_for_workers()
    assert launch.finish()[0] == 137


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(["unshare", "--pid", "--fork", "true"], check=False).returncode != 0,
    reason="needs a process namespace of its own",
)
def test_the_first_process_of_a_container_collects_orphans(start: Start, tmp_path: Path) -> None:
    body = f"""
        import subprocess
        orphan = "import os, time; os.fork() or (os.fork() or time.sleep(0.3)); os._exit(0)"
        subprocess.run([sys.executable, "-c", orphan])
        time.sleep(1.5)
        states = []
        for stat in __import__("pathlib").Path("/proc").glob("[0-9]*/stat"):
            fields = stat.read_text().rpartition(")")[2].split()
            states += [fields[0]] if fields[1] == "1" else []
        open({str(tmp_path / "states")!r} + os.environ["LOCAL_RANK"], "w").write("".join(states))
        sys.exit(0)
    """
    launch = start(body, prefix="unshare --pid --fork --mount-proc")
    assert launch.process.wait(timeout=60) == 0, launch.text("err")
    for rank in (0, 1):
        assert "Z" not in (tmp_path / f"states{rank}").read_text()
