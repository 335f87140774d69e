"""The exit code of a launch, from what each of its processes left."""

import os
from pathlib import Path

import pytest

from naics_job.checkpoint.catalogue import FINISHED
from naics_job.errors import CheckpointError
from naics_job.launch.outcome import exit_code, left_in, missing_marker, tell, trained_run
from naics_job.observability.heartbeat import FOLDER_VARIABLE, note_run

TOLD = 143


def leave(folder: Path, *codes: int | None) -> None:
    """Files of processes that ended in this order; None was killed."""
    for rank, code in enumerate(codes):
        (folder / f"{rank}.pid").write_text("1")
        if code is not None:
            file = folder / f"{rank}.code"
            file.write_text(str(code))
            os.utime(file, ns=(rank, rank))


@pytest.mark.parametrize(
    ("codes", "asked", "expected"),
    [
        ((0, 0), None, 0),
        ((65, 143), None, 65),
        ((70, 65), None, 65),  # the first one only lost the second
        ((75, 75, 78), None, 78),
        ((75, 70), None, 70),
        ((143, 143), None, 143),
        ((75, None), None, 137),
        ((None, None), None, 137),
        ((None, None), TOLD, 143),  # SIGTERM met them before they could handle it
        ((143, None), TOLD, 143),
        ((75, None), TOLD, 143),
        ((70, None), TOLD, 143),
        ((70, 70), TOLD, 70),
        ((78, None), TOLD, 78),
        ((0, 0), TOLD, 0),  # it was about to finish anyway
        ((0, None), 130, 130),
    ],
)
def test_the_process_that_failed_decides(
    tmp_path: Path, codes: tuple[int | None, ...], asked: int | None, expected: int
) -> None:
    leave(tmp_path, *codes)
    assert exit_code(left_in(tmp_path), len(codes), asked, alone=True) == expected


def test_zero_needs_a_zero_of_every_process(tmp_path: Path) -> None:
    leave(tmp_path, 0)
    left = left_in(tmp_path)
    assert exit_code(left, 1, None, alone=True) == 0
    assert exit_code(left, 2, None, alone=True) == 70


def test_processes_that_never_began(tmp_path: Path) -> None:
    left = left_in(tmp_path)
    assert exit_code(left, 2, None, alone=True) == 70
    assert exit_code(left, 2, None, alone=False) == 75  # the machines did not find each other
    assert exit_code(left, 2, TOLD, alone=False) == 143


def test_the_marker_of_the_run_that_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, root = tmp_path / "launch", tmp_path / "store"
    folder.mkdir()
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    assert "no process" in missing_marker(folder)
    note_run("elsewhere", "an-earlier-stage")
    note_run(str(root), "a-run")
    assert trained_run(folder) == (str(root), "a-run")
    assert str(root / "a-run") in missing_marker(folder)
    (root / "a-run").mkdir(parents=True)
    marker = root / "a-run" / FINISHED
    marker.write_text('{"step": 3, "limits": {}}')
    assert missing_marker(folder) == ""
    marker.write_text("{")
    with pytest.raises(CheckpointError):
        missing_marker(folder)


def test_the_last_line_of_the_log_names_the_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    leave(tmp_path, 78)
    tell(left_in(tmp_path), 1, 78, "seed=x is no number\n  hint: give one")
    tell(left_in(tmp_path), 1, 137, None)
    tell(left_in(tmp_path), 1, 0, "of an earlier start")
    told = [record.fields for record in caplog.records]  # type: ignore[attr-defined]
    assert told == [
        {"exit_code": 78, "codes": "78", "error": "seed=x is no number"},
        {"exit_code": 137, "codes": "78"},
    ]
