"""`launch` around real training: preemption and resume, machines, a frozen and a killed process."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tiny_bert import TINY

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
CODE = "from naics_job.cli.app import main; main()"
SETTINGS = (
    "data_loader.batch_size=4",
    "data_loader.global_batch_size=8",
    *TINY,
)
PATIENCE_S = 280  # this test may share its machine
OPERATOR = ("PET_", "MASTER_", "RANK", "WORLD_SIZE")


@dataclass(frozen=True)
class Pod:
    """A launcher that runs, as a container would run it."""

    process: "subprocess.Popen[bytes]"
    folder: Path
    log: Path

    def finish(self) -> int:
        return self.process.wait(timeout=PATIENCE_S)

    @property
    def output(self) -> str:
        return self.log.read_text()

    @property
    def record(self) -> dict[str, Any]:
        """run_record.json."""
        url = self.folder / "outputs/smoke/run_record.json"
        found: dict[str, Any] = json.loads(url.read_text())
        return found

    def workers(self) -> dict[int, int]:
        """Pids of the training processes by rank."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                variables = dict(
                    part.split("=", 1)
                    for part in path.read_text(errors="replace").split("\0")
                    if "=" in part
                )
                parent = int((path.parent / "stat").read_text().rpartition(")")[2].split()[1])
                torchrun = int(
                    Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1]
                )
            except (OSError, IndexError):
                continue
            if "LOCAL_RANK" in variables and torchrun == self.process.pid:
                found[int(variables["RANK"])] = int(path.parent.name)
        return found

    def wait_for_steps(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.output
            logs = list((self.folder / "logs/smoke").glob("*/metrics.jsonl"))
            if logs and "train/total" in logs[0].read_text():
                return
            time.sleep(0.05)
        raise AssertionError(f"no step was taken: {self.output}")


Start = Callable[..., Pod]


@pytest.fixture
def start(wordy_folder: Path) -> Iterator[Start]:
    """Start `launch` on the tiny encoder; what still runs is ended after the test."""
    pods: list[Pod] = []

    def begin(folder: Path, *settings: str, options: tuple[str, ...], **variables: str) -> Pod:
        log = folder / f"pod{len(pods)}.log"
        own = {name: text for name, text in os.environ.items() if not name.startswith(OPERATOR)}
        local = {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
        with log.open("wb") as file:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-c", CODE, "launch", *options),
                    *("--", "train", "--profile", "smoke", "--ckpt-path", "auto"),
                    *(*SETTINGS, f"model.base_model_name={wordy_folder}", *settings),
                ],
                cwd=folder,
                env={**own, **local, **variables},
                stdout=file,
                stderr=file,
            )
        pods.append(Pod(process, folder, log))
        return pods[-1]

    yield begin
    for pod in pods:
        if pod.process.poll() is None:
            pod.process.terminate()
            pod.process.wait(timeout=60)


def rss_megabytes(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def test_a_preempted_run_is_resumed_by_the_same_command(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    log.touch()
    command = {"options": ("--nproc-per-node", "2", "--termination-log", str(log))}
    pod = start(tmp_path, "training.trainer.max_epochs=6", **command)
    pod.wait_for_steps()
    assert rss_megabytes(pod.process.pid) < 80
    libraries = Path(f"/proc/{pod.process.pid}/maps").read_text()
    assert "libtorch" not in libraries
    assert "libtorch" in Path(f"/proc/{pod.workers()[0]}/maps").read_text()
    pod.process.terminate()
    assert pod.finish() == 143, pod.output
    stopped = pod.record
    assert stopped["exit_code"] == 143
    word = json.loads(log.read_text())
    assert word["exit_code"] == 143
    assert [word[name] for name in ("run_id", "step")] == [stopped["run_id"], stopped["steps"]]

    again = start(tmp_path, "training.trainer.max_epochs=6", **command)
    assert again.finish() == 0, again.output
    assert again.record["restarts"] == 1
    word = json.loads(log.read_text())
    assert [word[name] for name in ("exit_code", "status", "restarts")] == [0, "finished", 1]
    assert again.record["run_id"] == stopped["run_id"]
    assert again.record["steps"] > stopped["steps"]
    starts = json.loads((tmp_path / "checkpoints/smoke/starts.json").read_text())["starts"]
    assert [row["exit_code"] for row in starts] == [143, 0]
    assert [row["step"] for row in starts] == [0, stopped["steps"]]


def test_two_pods_find_each_other_and_both_finish(start: Start, tmp_path: Path) -> None:
    """The first one by options, the second as an operator with a Master tells it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    second = start(
        tmp_path, options=(), PET_NPROC_PER_NODE="1", PET_NNODES="2", PET_NODE_RANK="1", RANK="1",
        WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), PET_STANDALONE="",
    )  # fmt: skip
    endpoint = f"127.0.0.1:{port}"
    options = ("--nproc-per-node=1", "--nnodes=2", "--node-rank=0", f"--rdzv-endpoint={endpoint}")
    first = start(tmp_path, options=options)
    assert first.finish() == 0, first.output
    assert second.finish() == 0, second.output
    assert first.record["status"] == "finished"
    (manifest, *_) = (tmp_path / "checkpoints/smoke").glob("*/*.manifest.json")
    assert json.loads(manifest.read_text())["world_size"] == 2
    assert "launch.wait" in second.output


def test_a_frozen_process_ends_the_launch_with_stacks(start: Start, tmp_path: Path) -> None:
    settings = ("launch.stall_timeout_s=20", "training.trainer.max_epochs=200")
    pod = start(tmp_path, *settings, options=("--nproc-per-node", "2"))
    pod.wait_for_steps()
    workers = pod.workers()
    os.kill(workers[1], signal.SIGSTOP)
    assert pod.finish() == 75, pod.output
    (error,) = [line for line in pod.output.splitlines() if line.startswith("error:")]
    assert "showed no life" in error
    assert pod.output.count("most recent call first") >= 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers.values())


def test_a_killed_process_ends_the_launch_with_137(start: Start, tmp_path: Path) -> None:
    pod = start(tmp_path, "training.trainer.max_epochs=200", options=("--nproc-per-node", "2"))
    pod.wait_for_steps()
    os.kill(pod.workers()[1], signal.SIGKILL)
    assert pod.finish() == 137, pod.output
