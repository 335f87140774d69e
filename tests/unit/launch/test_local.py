"""The exit code of a run of several processes, from what each of them left."""

import os
from pathlib import Path

import pytest

from naics_job.launch.local import exit_code
from naics_job.launch.worker import FOLDER_VARIABLE, reported_to_launcher


def leave(folder: Path, *codes: int | None) -> None:
    """Files of processes that ended in this order; None was killed."""
    for rank, code in enumerate(codes):
        (folder / f"{rank}.pid").write_text("1")
        if code is not None:
            file = folder / f"{rank}.code"
            file.write_text(str(code))
            os.utime(file, ns=(rank, rank))


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ((0, 0), 0),
        ((65, 143), 65),
        ((70, 65), 65),  # the first one only lost the second
        ((75, 75, 78), 78),
        ((75, 70), 70),
        ((143, 143), 143),
        ((75, None), 137),
        ((None, None), 137),
    ],
)
def test_the_process_that_failed_decides(
    tmp_path: Path, codes: tuple[int | None, ...], expected: int
) -> None:
    leave(tmp_path, *codes)
    assert exit_code(tmp_path, 0 if set(codes) == {0} else 1) == expected


def test_a_launcher_that_started_nothing(tmp_path: Path) -> None:
    assert exit_code(tmp_path, 1) == 70
    assert exit_code(tmp_path, 0) == 0


@pytest.mark.parametrize(("ending", "code"), [(SystemExit(78), "78"), (SystemExit(), "0")])
def test_a_process_leaves_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: SystemExit, code: str
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setenv("RANK", "3")

    def run() -> None:
        with reported_to_launcher():
            assert (tmp_path / "3.pid").read_text() == str(os.getpid())
            raise ending

    with pytest.raises(SystemExit):
        run()
    assert (tmp_path / "3.code").read_text() == code
