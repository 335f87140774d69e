"""`launch` as a user and an operator meet it, up to where torchrun would start."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-c", "from naics_job.cli.app import main; main()", "launch"]
STATED = ("PET_", "MASTER_", "RANK", "WORLD_SIZE")


def environment(**variables: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(STATED)}
    return {**own, **variables}


def run(
    *arguments: str, cwd: Path, code: str | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    command = COMMAND if code is None else [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(
        [*command, *arguments],
        cwd=cwd, env=environment(**variables), capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ([], "nothing is given", "-- train"),
        (["--", "evaluate"], "'evaluate' is not train or train-seq", "-- train"),
        (["--", "train", "--profil", "smoke"], "--profil", "train --help"),
        (["--", "train", "loss.temprature=1"], "loss.temprature", "loss.temperature"),
        (["train", "--profile", "none"], "no profile 'none'", "smoke"),  # without --
        (["--nnodes", "2", "--", "train"], "nowhere to meet", "--rdzv-endpoint"),
        (["--node-rank", "1", "--", "train"], "--node-rank=1", "from 0 to 0"),
    ],
)
def test_what_is_wrong_ends_with_78_before_anything_starts(
    arguments: list[str], message: str, hint: str, tmp_path: Path
) -> None:
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == 78
    first, second = result.stderr.splitlines()
    assert first.startswith("error: ")
    assert message in first
    assert hint in second


# what is started instead of torchrun, and what it was given
FAKE = """
    import json, os, subprocess, sys
    import naics_job.launch.supervisor as supervisor
    real = subprocess.Popen
    def popen(command, env, **options):
        pet = {name: value for name, value in env.items() if name.startswith("PET_")}
        print(json.dumps({"command": command[1:], "pet": pet}), flush=True)
        return real([sys.executable, "-c", "import sys; sys.exit(1)"], env=env, **options)
    supervisor.subprocess.Popen = popen
    from naics_job.cli.app import main
    sys.argv[1:] = ["launch", *sys.argv[1:]]
    try:
        main()
    finally:
        heavy = [name for name in ("torch", "numpy", "lightning") if name in sys.modules]
        print("loaded:", *heavy)
"""


def test_torchrun_gets_flags_and_its_failure_is_no_success(tmp_path: Path) -> None:
    result = run(
        "--", "train", "--profile", "smoke", "--ckpt-path", "auto", "seed=5",
        cwd=tmp_path, code=FAKE, PET_NPROC_PER_NODE="2", PET_NNODES="1", PET_STANDALONE="",
    )  # fmt: skip
    assert result.returncode == 70, result.stderr
    assert '"--nproc-per-node=2"' in result.stdout
    assert '"train", "--profile", "smoke", "--ckpt-path", "auto", "seed=5"' in result.stdout
    assert '"pet": {}' in result.stdout
    assert result.stdout.splitlines()[-1].strip() == "loaded:"
    assert "never_began=2" in result.stderr
    assert '"exit_code": 70' in (tmp_path / "checkpoints/smoke/starts.json").read_text()


def test_a_crash_loop_ends_with_70_and_how_to_go_on(tmp_path: Path) -> None:
    command = ["train", "--profile", "smoke", "--ckpt-path", "auto", "launch.max_failed_starts=1"]
    assert run(*command, cwd=tmp_path, code=FAKE).returncode == 70
    result = run(*command, cwd=tmp_path, code=FAKE)
    assert result.returncode == 70
    assert "the last 1 starts failed with codes 70" in result.stderr
    assert "starts.json" in result.stderr
    assert "command" not in result.stdout
    fresh = run(*command, "--ckpt-path", "", cwd=tmp_path, code=FAKE)
    assert "command" in fresh.stdout  # no run is continued, no ledger is asked


def test_sigterm_while_it_waits_for_another_machine(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{closed.getsockname()[1]}"
        process = subprocess.Popen(
            [*COMMAND, "--nnodes=2", "--node-rank=1", f"--rdzv-endpoint={where}", "--", "train"],
            cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stderr is not None
        assert "launch.wait" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 143, errors


def test_the_other_machine_does_not_come(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{closed.getsockname()[1]}"
        result = run(
            *["--nnodes=2", "--node-rank=1", f"--rdzv-endpoint={where}"],
            *["--", "train", "launch.rendezvous_timeout_s=1"],
            cwd=tmp_path,
        )
    assert result.returncode == 75
    assert "TCP: 127.0.0.1" in result.stderr


def test_an_operator_that_retries_only_from_128_on_is_told_so(tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    log.touch()
    options = ("--transient-exit-code=203", f"--termination-log={log}")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{closed.getsockname()[1]}"
        machine = (*options, "--nnodes=2", "--node-rank=1", f"--rdzv-endpoint={where}")
        train = ("--", "train", "launch.rendezvous_timeout_s=1")
        assert run(*machine, *train, cwd=tmp_path).returncode == 203
    word = json.loads(log.read_text())
    assert word["exit_code"] == 75
    assert "127.0.0.1" in word["message"]

    permanent = run(*options, "--", "train", "loss.temprature=1", cwd=tmp_path)
    assert permanent.returncode == 78
    assert json.loads(log.read_text())["exit_code"] == 78
    assert "loss.temperature" in log.read_text()
