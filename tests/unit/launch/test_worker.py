"""What a training process leaves for its launcher."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from naics_job.launch.worker import FOLDER_VARIABLE, reported_to_launcher


@pytest.mark.parametrize(("ending", "code"), [(SystemExit(78), "78"), (SystemExit(), "0")])
def test_a_process_leaves_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: SystemExit, code: str
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setenv("LOCAL_RANK", "3")
    (tmp_path / "3.code").write_text("75")  # of a process that this one replaces
    (tmp_path / "3.beat").touch()

    def run() -> None:
        with reported_to_launcher():
            assert (tmp_path / "3.pid").read_text() == str(os.getpid())
            assert not (tmp_path / "3.code").exists()
            assert not (tmp_path / "3.beat").exists()
            raise ending

    with pytest.raises(SystemExit):
        run()
    assert (tmp_path / "3.code").read_text() == code


def test_a_process_whose_launcher_is_gone_does_not_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(SystemExit) as stop, reported_to_launcher():
        raise AssertionError
    assert stop.value.code == 75


def test_it_writes_its_stacks_when_asked(tmp_path: Path) -> None:
    code = """
        import time
        from naics_job.launch.worker import reported_to_launcher
        def stuck():
            print("here", flush=True)
            time.sleep(50)
        with reported_to_launcher():
            stuck()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, FOLDER_VARIABLE: str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGUSR1)
        lines = [process.stderr.readline() for _ in range(2)]
        process.kill()
    assert "most recent call first" in lines[0]
    assert "in stuck" in lines[1]
