"""Which exit code and which lines a failure gives."""

import errno

import pytest
import typer

from naics_job.cli.failures import exit_on_error
from naics_job.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    NaicsJobError,
    TransientError,
)


def run(error: BaseException, verbose: bool = False) -> int:
    with pytest.raises(typer.Exit) as caught, exit_on_error(verbose):
        raise error
    return int(caught.value.exit_code)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (ConfigError, 78),
        (DataError, 65),
        (CheckpointError, 74),
        (TransientError, 75),
        (NaicsJobError, 70),
    ],
)
def test_our_errors(
    kind: type[NaicsJobError], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(kind("it is\nbroken", "mend it")) == code
    assert capsys.readouterr().err == "error: it is broken\n  hint: mend it\n"


def test_without_a_hint_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    run(DataError("broken"))
    assert capsys.readouterr().err == "error: broken\n"


def test_an_unexpected_error_is_short(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NAICS_DEBUG", raising=False)
    assert run(ZeroDivisionError("division by zero")) == 70
    errors = capsys.readouterr().err
    assert "ZeroDivisionError: division by zero" in errors
    assert "--verbose" in errors
    assert "Traceback" not in errors


def test_a_full_disk_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(OSError(errno.ENOSPC, "No space left on device", "logs/metrics.jsonl")) == 70
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error: the disk is full")
    assert "logs/metrics.jsonl" in first
    assert "--ckpt-path last" in second


@pytest.mark.parametrize(("verbose", "variable"), [(True, "0"), (False, "1")])
def test_a_traceback_on_request(
    verbose: bool,
    variable: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NAICS_DEBUG", variable)
    assert run(ZeroDivisionError(), verbose) == 70
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_an_exit_code_passes_through() -> None:
    assert run(typer.Exit(75)) == 75
