"""The command line in this process, and a finished run to spoil.

Each item of "Bad input" and its test; every one of them goes through `naics-embedder` itself.

unknown, ill-typed or out-of-range setting  test_bad_sources: a_wrong_setting, no_such_file
missing, truncated, empty, wrong-sheet book test_bad_sources: a_bad_workbook
a code whose parent is missing              test_bad_sources: a_bad_workbook[orphan]
duplicate codes                             test_bad_sources: a_bad_workbook[duplicate]
unreachable Census host                     test_bad_sources: unreachable_census
hub unreachable and no wheel                test_bad_sources: unreachable_hub_and_no_wheel
weights with a wrong checksum               test_bad_sources: wrong_checksum_of_weights
corrupt Parquet or token cache              test_bad_caches: all of it
checkpoint truncated, flipped               test_bad_checkpoints: the_newest, none_is_whole, named
  of another architecture                   test_bad_checkpoints: another_architecture
  containing code to execute                test_bad_checkpoints: code_in_a_checkpoint
disk full while saving                      test_bad_machine: full_disk_while_saving and others
metrics or output folder not writable       test_bad_machine: unwritable_folder
Ctrl-C                                      test_bad_machine: ctrl_c
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tiny_bert import TINY

from naics_job.cli.app import main
from naics_job.observability.logs import unbind_all

RECORD = Path("outputs/smoke/run_record.json")
RECORDS = (RECORD.name, "finished_record.json")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The last line of stderr that states the error."""
        return next(line for line in reversed(self.err.splitlines()) if line.startswith("error: "))

    def refuses(self, code: int, *names: str) -> None:
        """Assert the exit code, a message with `names`, a hint, and no traceback."""
        assert self.code == code, self.err
        last = self.err.splitlines()[-2:]
        assert last[0].startswith("error: "), self.err
        assert last[1].startswith("  hint: "), self.err
        assert len(last[1]) > 20
        assert len(last[0]) < 500
        for name in names:
            assert name in last[0] + last[1], last
        assert "unexpected" not in last[0]
        assert "Traceback" not in self.err
        assert self.out == ""


Command = Callable[..., Ended]


@pytest.fixture(scope="session")
def settings(tiny_folder: Path) -> list[str]:
    """Arguments of a run of seven steps: a checkpoint in the middle and one at the end."""
    model = [f"model.base_model_name={tiny_folder}", *TINY]
    return ["--profile", "smoke", *model, "training.trainer.max_epochs=1"]


def call(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> Ended:
    """Run `naics-embedder` with `arguments` in the working folder."""
    capsys.readouterr()
    before = sys.argv
    sys.argv = ["naics-embedder", *arguments]
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv = before
        unbind_all()
    told = capsys.readouterr()
    return Ended(code, told.out, told.err)


@pytest.fixture
def command(
    settings: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Run a command with the settings of the small run before its own arguments."""
    monkeypatch.delenv("NAICS_DEBUG", raising=False)

    def run(*arguments: str) -> Ended:
        words = 2 if arguments[0] in ("data", "tools", "search") else 1
        return call([*arguments[:words], *settings, *arguments[words:]], capsys)

    return run


@pytest.fixture(scope="session")
def finished(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that went well; tests work on copies."""
    folder = tmp_path_factory.mktemp("finished")
    before, argv = Path.cwd(), sys.argv
    os.chdir(folder)
    sys.argv = ["naics-embedder", "train", *settings]
    try:
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 0
    finally:
        os.chdir(before)
        sys.argv = argv
        unbind_all()
    return folder


@dataclass(frozen=True)
class Work:
    """The working folder of a command."""

    root: Path

    def find(self, pattern: str) -> Path:
        """The last path that matches, in order of names."""
        return sorted(self.root.glob(pattern))[-1]

    @property
    def record(self) -> dict[str, Any]:
        """The run record."""
        found: dict[str, Any] = json.loads((self.root / RECORD).read_text())
        return found

    def contents(self, *folders: str) -> dict[str, bytes]:
        """Every file below the folders; logs, run records and the run lease aside."""
        roots = [self.root / name for name in folders] or [self.root]
        files = [path for root in roots for path in root.rglob("*") if path.is_file()]
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in files
            if path.name not in RECORDS and not {"logs", "lease"} & set(path.parts)
        }

    def flip_bit(self, pattern: str) -> Path:
        """Change one bit in the middle of a file."""
        path = self.find(pattern)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        return path

    def truncate(self, pattern: str) -> Path:
        """Keep the first half of a file."""
        path = self.find(pattern)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        return path


@pytest.fixture
def nothing_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    """An empty working folder."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return Work(tmp_path / "work")


@pytest.fixture
def after_a_run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    """A copy of the finished run as working folder."""
    shutil.copytree(finished, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return Work(tmp_path / "work")
