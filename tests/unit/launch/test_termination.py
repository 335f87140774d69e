"""What the kubelet reads when a pod has ended."""

import json
from pathlib import Path
from typing import Any

import pytest

from naics_job.errors import NaicsJobError, TransientError
from naics_job.launch.termination import LIMIT_BYTES, last_word


def told(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "termination-log"
    path.touch()
    return path


def test_the_outcome_and_what_training_told(file: Path) -> None:
    with last_word(file) as word:
        word.exit_code = 143
        word.summary = {"run_id": "r1", "steps": 40, "phase": 2}
    assert told(file) == {"exit_code": 143, "run_id": "r1", "steps": 40, "phase": 2}


def test_a_failure_of_the_launcher_comes_with_its_hint(file: Path) -> None:
    with pytest.raises(TransientError), last_word(file):
        raise TransientError("no peer", "is worker 0 up?")
    assert told(file) == {"exit_code": 75, "message": "no peer", "hint": "is worker 0 up?"}


@pytest.mark.parametrize(("error", "code"), [(SystemExit(143), 143), (RuntimeError("x"), 70)])
def test_other_ends(error: BaseException, code: int, file: Path) -> None:
    with pytest.raises(type(error)), last_word(file):
        raise error
    assert told(file)["exit_code"] == code


def test_it_fits_what_the_kubelet_shows(file: Path) -> None:
    metrics = {"all": {f"metric{number}": 0.1 for number in range(1000)}}

    def fail() -> None:
        with last_word(file) as word:
            word.summary = {"run_id": "r1", "error": "ä" * 3000, "metrics": metrics}
            raise NaicsJobError("ö" * 5000, "h")

    with pytest.raises(NaicsJobError):
        fail()
    assert len(file.read_bytes()) <= LIMIT_BYTES
    found = told(file)
    assert found["exit_code"] == 70
    assert found["hint"] == "h"
    assert found["run_id"] == "r1"
    assert not {"metrics", "error"} & found.keys()


def test_without_the_file_nothing_is_made(tmp_path: Path) -> None:
    with last_word(tmp_path / "none") as word:
        word.exit_code = 0
    assert not list(tmp_path.iterdir())
