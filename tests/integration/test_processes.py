"""Several processes train what one trains: same samples, same losses, one checkpoint, one code."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_bert import TINY

pytestmark = pytest.mark.integration
CODE = "from naics_job.cli.app import main; main()"
SETTINGS = (
    "data_loader.global_batch_size=8",
    *TINY,
    "checkpoint.keep_last=9",
)


@dataclass(frozen=True)
class Run:
    """What a finished command left."""

    folder: Path
    code: int
    stderr: str

    @property
    def record(self) -> dict[str, Any]:
        """run_record.json."""
        url = self.folder / "outputs/smoke/run_record.json"
        found: dict[str, Any] = json.loads(url.read_text())
        return found

    @property
    def losses(self) -> dict[int, float]:
        """train/total by step of the newest run."""
        log = self.folder / "logs/smoke" / self.record["run_id"] / "metrics.jsonl"
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        return {row["step"]: row["train/total"] for row in rows if "train/total" in row}

    @property
    def payload(self) -> dict[str, Any]:
        """Content of the newest checkpoint."""
        newest = self.folder / "checkpoints/smoke" / self.manifests()[-1]["run_id"]
        found = torch.load(newest / self.manifests()[-1]["file"], weights_only=True)
        assert isinstance(found, dict)
        return found

    def manifests(self) -> list[dict[str, Any]]:
        """Of all checkpoints, oldest first."""
        found = (self.folder / "checkpoints/smoke").glob("*/*.manifest.json")
        rows = [json.loads(path.read_text()) for path in found]
        return sorted(rows, key=lambda row: str(row["created_at"]))


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def start(wordy_folder: Path) -> Iterator[Start]:
    """Start `naics-embedder train` on the tiny encoder; what still runs is killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def begin(folder: Path, num_processes: int, *options: str) -> "subprocess.Popen[str]":
        per_process = f"data_loader.batch_size={8 // num_processes}"
        devices = f"training.trainer.devices={num_processes}"
        model = f"model.base_model_name={wordy_folder}"
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", CODE, "train", "--profile", "smoke", *options),
                *(*SETTINGS, per_process, devices, model),
            ],
            cwd=folder,
            env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()


def finish(process: "subprocess.Popen[str]", folder: Path) -> Run:
    _, stderr = process.communicate(timeout=240)
    return Run(folder, process.returncode, stderr)


@pytest.fixture(scope="module")
def alone(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone")
    run = finish(start(folder, 1), folder)
    assert run.code == 0, run.stderr
    return run


@pytest.fixture(scope="module")
def four(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same run of four processes."""
    folder = tmp_path_factory.mktemp("four")
    return finish(start(folder, 4), folder)


def same_losses(run: Run, alone: Run) -> None:
    """Bit for bit on cached features; where the adapters train, texts are summed in other order.

    Dropout is on: a code and a text have the same masks on whichever process they are.
    """
    first = alone.record["phases"][-1]["first_step"]  # of phase 3, which trains the adapters
    for step, loss in alone.losses.items():
        if step < first:
            assert run.losses[step] == loss, step
        assert run.losses[step] == pytest.approx(loss, rel=0, abs=1e-5), step


@pytest.mark.parametrize("num_processes", [2, 4])
def test_losses_are_those_of_one_process(
    start: Start,
    alone: Run,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    num_processes: int,
) -> None:
    if num_processes == 4:
        run = request.getfixturevalue("four")
    else:
        run = finish(start(tmp_path, num_processes), tmp_path)
    assert run.code == 0, run.stderr
    assert run.losses.keys() == alone.losses.keys()
    assert len(run.losses) == run.record["steps"] > 10
    same_losses(run, alone)
    same_clusters(run, alone)
    manifests = run.manifests()
    assert {row["world_size"] for row in manifests} == {num_processes}
    assert {row["global_batch_size"] for row in manifests} == {8}
    assert len({row["run_id"] for row in manifests}) == 1
    (one, *_) = (run.folder / "checkpoints/smoke").glob("*/run.json")
    assert json.loads(one.read_text())["global_batch_size"] == 8


def same_clusters(run: Run, alone: Run) -> None:
    """The labels of phase 3, and where the sampler stands."""
    ours, expected = run.payload, alone.payload
    assert expected["clusters"]["labels"].max() > 0
    assert torch.equal(ours["clusters"]["labels"], expected["clusters"]["labels"])
    assert ours["clusters"]["epoch"] == expected["clusters"]["epoch"]
    assert ours["NaicsDataModule"] == expected["NaicsDataModule"]


def test_four_then_two_then_one_process_go_on_with_the_same_batches(
    start: Start, alone: Run, four: Run, tmp_path: Path
) -> None:
    """A step of other codes, negatives, views or masks would have another loss."""
    folder = tmp_path / "run"
    shutil.copytree(four.folder, folder)
    for num_processes, step in ((2, 5), (1, 15)):
        forget_after(folder, step)
        run = finish(start(folder, num_processes, "--ckpt-path", "last"), folder)
        assert run.code == 0, run.stderr
        assert run.record["run_id"] == four.record["run_id"]
        sizes = {row["step"]: row["world_size"] for row in run.manifests()}
        assert min(n for n in sizes if sizes[n] == num_processes) > step
        assert run.losses.keys() == alone.losses.keys()
        same_losses(run, alone)
        same_clusters(run, alone)
    assert sizes == {5: 4, 10: 2, 15: 2, 20: 1, 21: 1}


def forget_after(folder: Path, step: int) -> None:
    """Leave a finished run as if it had been killed after the checkpoint of `step`."""
    root = folder / "checkpoints/smoke"
    for path in root.glob("*/*.manifest.json"):
        manifest = json.loads(path.read_text())
        if manifest["step"] > step:
            path.unlink()
            (path.parent / manifest["file"]).unlink()
    for marker in root.glob("*/finished.json"):
        marker.unlink()
    (root / "LATEST.json").unlink()


def test_sigterm_to_one_process_stops_all_after_the_same_step_and_loses_nothing(
    start: Start, alone: Run, tmp_path: Path
) -> None:
    process = start(tmp_path, 2, "training.trainer.max_epochs=3", "checkpoint.max_lost_steps=2000")
    second = wait_for_worker(process, rank=1, folder=tmp_path)
    os.kill(second, signal.SIGTERM)
    run = finish(process, tmp_path)
    assert run.code == 143, run.stderr
    assert run.record["exit_code"] == 143
    (saved,) = run.manifests()
    assert saved["step"] == run.record["steps"] == max(run.losses) + 1
    assert 0 < saved["step"] < len(alone.losses)

    resumed = finish(start(tmp_path, 1, "--ckpt-path", "last"), tmp_path)
    assert resumed.code == 0, resumed.stderr
    assert resumed.record["run_id"] == run.record["run_id"]
    assert resumed.losses.keys() == alone.losses.keys()  # the log of both starts: no step is lost
    same_losses(resumed, alone)


def wait_for_worker(process: "subprocess.Popen[str]", rank: int, folder: Path) -> int:
    """The pid of the training process `rank`, once it has taken steps."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        logs = list((folder / "logs/smoke").glob("*/metrics.jsonl"))
        if logs and "train/total" in logs[0].read_text():
            return pid_of(process.pid, rank)
        time.sleep(0.05)
    raise AssertionError("no step was taken")


def pid_of(launcher: int, rank: int) -> int:
    """The process below `launcher` that torchrun gave this rank."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = path.read_bytes().split(b"\0")
        except OSError:
            continue
        wanted = {b"RANK=%d" % rank, b"WORLD_SIZE=2"}
        if wanted <= set(variables) and below(int(path.parent.name), launcher):
            return int(path.parent.name)
    raise AssertionError(f"no process of rank {rank}")


def below(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        stat = Path(f"/proc/{pid}/stat").read_text()
        pid = int(stat.rpartition(")")[2].split()[1])
    return False


def test_a_failure_has_the_code_of_the_process_that_failed(start: Start, tmp_path: Path) -> None:
    run = finish(start(tmp_path, 2, "data.source=census", "data.census_url=nowhere"), tmp_path)
    assert run.code == 65, run.stderr
    assert "nowhere" in run.stderr
