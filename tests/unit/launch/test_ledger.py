"""Starts that only fail are refused; preemptions, progress and new settings are no such starts."""

import json
import logging
from pathlib import Path

import pytest

from naics_job.errors import NaicsJobError
from naics_job.launch.ledger import FILE, Ledger


def ledger(root: Path) -> Ledger:
    return Ledger(str(root), [str(root)])


def start(root: Path, code: int | None, limit: int = 3, settings: str = "s") -> None:
    """One start of an experiment and its end; None: the launcher was killed too."""
    one = ledger(root)
    one.begin(settings, limit)
    if code is not None:
        one.end(code, "run-1")


def reach(root: Path, step: int) -> None:
    """The newest checkpoint of the experiment."""
    root.mkdir(exist_ok=True)
    pointer = {"run_id": "run-1", "file": f"step-{step:08d}.ckpt"}
    (root / "LATEST.json").write_text(json.dumps(pointer))


def rows(root: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((root / FILE).read_text())["starts"]
    return found


def test_what_is_noted(tmp_path: Path) -> None:
    start(tmp_path / "e", 143)
    reach(tmp_path / "e", 40)
    ledger(tmp_path / "e").begin("t", 3)
    first, second = rows(tmp_path / "e")
    assert (first["step"], first["exit_code"], first["run_id"]) == (0, 143, "run-1")
    assert (second["step"], second["exit_code"], second["config_hash"]) == (40, None, "t")
    assert str(first["time"]) < str(second["time"])


def test_a_crash_loop_is_refused_and_nothing_noted(tmp_path: Path) -> None:
    reach(tmp_path, 40)
    for code in (70, None, 137):
        start(tmp_path, code)
    for _ in range(2):
        with pytest.raises(NaicsJobError, match=r"70, killed, 137 .* step 40") as error:
            start(tmp_path, 0)
        assert error.value.exit_code == 70
        assert str(tmp_path / FILE) in error.value.hint
    assert len(rows(tmp_path)) == 3
    (tmp_path / FILE).unlink()
    start(tmp_path, 0)


@pytest.mark.parametrize("between", [143, 130])
def test_preemptions_do_not_count(tmp_path: Path, between: int) -> None:
    for code in (75, between, 75, between, between, between):
        start(tmp_path, code)
    start(tmp_path, 75)
    with pytest.raises(NaicsJobError, match="75, 75, 75"):
        start(tmp_path, 0)


def test_progress_or_success_or_other_settings_begin_anew(tmp_path: Path) -> None:
    for code in (75, 75, 0, 75, 75):
        start(tmp_path, code)
    reach(tmp_path, 10)
    for code in (75, 75):
        start(tmp_path, code)
    reach(tmp_path, 20)  # the newest start got further before it failed
    for code in (75, 75, 75):
        start(tmp_path, code)
    start(tmp_path, 75, settings="mended")
    for _ in range(2):
        start(tmp_path, 75, settings="mended")
    with pytest.raises(NaicsJobError):
        start(tmp_path, 75, settings="mended")


def test_no_limit(tmp_path: Path) -> None:
    for _ in range(9):
        start(tmp_path, 70, limit=0)


def test_a_damaged_ledger_and_a_disk_that_fails_are_warnings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    (tmp_path / FILE).write_text('{"starts": [{"step": "x"}]}')
    start(tmp_path, 0)
    assert "ledger.damaged" in caplog.text
    assert len(rows(tmp_path)) == 1
    blocked = tmp_path / "file"
    blocked.write_text("")
    start(blocked / "e", 0)
    assert "ledger.failed" in caplog.text


def test_stages_of_a_sequence_add_up(tmp_path: Path) -> None:
    stages = [tmp_path / f"e-stage{n}" for n in (1, 2, 3)]
    reach(stages[0], 30)
    reach(stages[1], 4)
    Ledger(str(tmp_path / "e"), [str(stage) for stage in stages]).begin("s", 3)
    assert rows(tmp_path / "e")[0]["step"] == 34
