"""A full disk, folders that cannot be written, and Ctrl-C."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from naics_job.training import build

pytestmark = pytest.mark.integration

Command = Callable[..., Any]
ROOT = Path(__file__).parents[3]
FOLDERS = ("data_dir", "log_dir", "output_dir", "checkpoint_dir")
START_S = 120.0  # for a process to import everything and save its first checkpoint


@contextmanager
def full_beyond(num_bytes: int) -> Iterator[None]:
    """Let no file grow larger, which fails as a full disk does, for root too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk_while_saving_a_checkpoint(after_a_run: Any, command: Command) -> None:
    before = after_a_run.contents("data", "checkpoints", "outputs")
    size = after_a_run.find("checkpoints/smoke/*/*.ckpt").stat().st_size
    with full_beyond(size // 2):
        command("train").refuses(74, "File too large", "free space")
    assert after_a_run.record["status"] == "failed"
    assert after_a_run.record["exit_code"] == 74
    after = after_a_run.contents("data", "checkpoints", "outputs")
    assert before.items() <= after.items()
    assert not [name for name in after.keys() - before.keys() if ".ckpt" in name or "tmp" in name]
    ended = command("train", "--ckpt-path", "last")
    assert ended.code == 0, "the earlier run's checkpoint is still there"


def test_full_disk_while_preparing(nothing_yet: Any, command: Command) -> None:
    with full_beyond(3000):
        command("data", "all").refuses(65, "naics_descriptions.parquet", "free space")
    assert nothing_yet.contents() == {}
    assert command("data", "all").code == 0


def test_full_disk_while_encoding(nothing_yet: Any, command: Command) -> None:
    with full_beyond(24_000):
        command("train").refuses(65, "data/features", "free space")
    assert nothing_yet.record["exit_code"] == 65
    assert not list(nothing_yet.root.glob("data/features/*"))
    assert command("train").code == 0


def test_full_disk_while_exporting(after_a_run: Any, command: Command) -> None:
    """The run is over and saved; its export waits for space."""
    exported = after_a_run.contents("outputs")
    size = after_a_run.find("outputs/smoke/model/model.safetensors").stat().st_size
    with full_beyond(size // 2):
        ended = command("train", "--ckpt-path", "last")
    ended.refuses(65, "model.safetensors", "free space")
    assert after_a_run.record["exit_code"] == 65
    model = "outputs/smoke/model/model.safetensors"
    assert after_a_run.contents("outputs")[model] == exported[model]
    assert command("train", "--ckpt-path", "last").code == 0


@pytest.mark.parametrize("path", ["a_file", "/proc/naics"])  # both refuse root as well
@pytest.mark.parametrize("key", FOLDERS)
def test_unwritable_folder(after_a_run: Any, command: Command, key: str, path: str) -> None:
    """Before anything is computed; the record stays while nobody can say who may write it."""
    (after_a_run.root / "a_file").write_text("not a folder")
    before = after_a_run.contents()
    command("train", f"dirs.{key}={path}").refuses(78, f"dirs.{key}={path}", "set dirs.")
    assert after_a_run.contents() == before
    if key in ("output_dir", "checkpoint_dir"):
        assert after_a_run.record["status"] == "finished"  # of the run before, untouched
    else:
        assert after_a_run.record["status"] == "failed"
        assert after_a_run.record["exit_code"] == 78


def test_unwritable_metrics_without_validation(after_a_run: Any, command: Command) -> None:
    ended = command("train", "--skip-validation", "dirs.log_dir=/proc/naics")
    ended.refuses(78, "metrics", "/proc/naics", "dirs.log_dir")
    assert after_a_run.record["exit_code"] == 78


def test_unwritable_output_without_validation(after_a_run: Any, command: Command) -> None:
    """What was trained is not lost: another folder takes it without a step."""
    (after_a_run.root / "a_file").write_text("not a folder")
    ended = command("train", "--skip-validation", "dirs.output_dir=a_file", "seed=7")
    ended.refuses(65, "a_file/smoke")
    ended = command("train", "--ckpt-path", "last", "seed=7")
    assert ended.code == 0
    assert after_a_run.record["steps"] == 7
    assert after_a_run.record["restarts"] == 1


@pytest.mark.parametrize("tool", ["visualize", "investigate"])
def test_unwritable_reports(after_a_run: Any, command: Command, tool: str) -> None:
    (after_a_run.root / "a_file").write_text("not a folder")
    command("tools", tool, "dirs.docs_dir=a_file").refuses(65, "a_file/smoke")


def test_ctrl_c_before_training(
    after_a_run: Any, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(build, "load_dataset", interrupted)
    before = after_a_run.contents()
    ended = command("train")
    assert ended.code == 130
    assert ended.err.splitlines()[-2:] == [
        "error: stopped by SIGINT while it prepared",
        "  hint: start the same command again",
    ]
    assert after_a_run.record["status"] == "stopped"
    assert after_a_run.record["exit_code"] == 130
    assert after_a_run.contents() == before


def test_ctrl_c(nothing_yet: Any, command: Command, settings: list[str]) -> None:
    """In a process of its own: saved, told in two lines, and ready to go on."""
    code = "from naics_job.cli.app import main; main()"
    endless = [*settings, "training.trainer.max_epochs=100000"]
    with subprocess.Popen(
        [sys.executable, "-c", code, "train", *endless],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + START_S
        while not list(nothing_yet.root.glob("checkpoints/*/LATEST.json")):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    last = errors.splitlines()[-2:]
    assert last[0].startswith("error: stopped by SIGINT after step ")
    assert last[1] == "  hint: continue with: naics-embedder train --ckpt-path last"
    assert "Traceback" not in errors
    assert out == ""
    record = nothing_yet.record
    assert (record["status"], record["exit_code"]) == ("stopped", 130)
    assert record["checkpoint"].endswith(f"step-{record['steps']:08d}.ckpt")
    assert command("evaluate", *endless[len(settings) :]).code == 0
