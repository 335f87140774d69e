"""From exceptions to what a terminal and a cluster understand: two lines and an exit code."""

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from naics_job.errors import UNEXPECTED, NaicsJobError
from naics_job.stopping import StopNow
from naics_job.storage.failures import FULL

DEBUG_VARIABLE = "NAICS_DEBUG"
INTERRUPTED = 130
FREE_SPACE = "free some space; a run that has saved goes on with: train --ckpt-path last"


@contextmanager
def exit_on_error(verbose: bool = False) -> Iterator[None]:
    """End the process with the right code and a short message when the body fails.

    A `NaicsJobError` gives its message, its hint and its exit code. A full disk ends with code 70,
    and so does anything else, which is a defect of ours: its traceback is shown when `verbose` or
    when NAICS_DEBUG is set.
    """
    try:
        yield
    except NaicsJobError as error:
        _print_traceback(verbose)
        _fail(str(error.args[0]), error.hint, error.exit_code)
    except KeyboardInterrupt:
        interrupted()
    except StopNow as stop:  # before there was a run
        if stop.number == signal.SIGINT:
            interrupted()
        _fail("stopped before it began", "start the same command again", 128 + stop.number)
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise
    except Exception as error:
        _print_traceback(verbose)
        if isinstance(error, OSError) and error.errno in FULL:
            _fail(f"the disk is full: {error}", FREE_SPACE, UNEXPECTED)
        hint = "" if _debug(verbose) else f"--verbose or {DEBUG_VARIABLE}=1 shows where it happened"
        _fail(f"unexpected {type(error).__name__}: {error}", hint, UNEXPECTED)


def interrupted() -> None:
    """End as a shell expects after Ctrl-C."""
    print("interrupted", file=sys.stderr)
    raise typer.Exit(INTERRUPTED)


def _fail(message: str, hint: str, exit_code: int) -> None:
    print("error: " + " ".join(message.split("\n")), file=sys.stderr)
    if hint:
        print("  hint: " + " ".join(hint.split("\n")), file=sys.stderr)
    raise typer.Exit(exit_code)


def _debug(verbose: bool) -> bool:
    return verbose or os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def _print_traceback(verbose: bool) -> None:
    if _debug(verbose):
        traceback.print_exc()
