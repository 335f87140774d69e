"""What a training process leaves for the launcher that started it: its pid, then its exit code.

torchrun answers 1 to every failure of a worker, so the codes of the contract travel in files.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER_VARIABLE = "NAICS_LAUNCH_DIR"
PID, CODE = ".pid", ".code"


@contextmanager
def reported_to_launcher() -> Iterator[None]:
    """Report this process for the length of the body; without a launcher, do nothing.

    The body ends with SystemExit or returns; any other exception is left without a code.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder is None:
        yield
        return
    rank = os.environ.get("RANK", "0")
    _write(Path(folder) / f"{rank}{PID}", os.getpid())
    code: object = None
    try:
        yield
        code = 0
    except SystemExit as error:
        code = error.code or 0
        raise
    finally:
        if isinstance(code, int):
            _write(Path(folder) / f"{rank}{CODE}", code)


def _write(path: Path, number: int) -> None:
    """Write so that a reader sees all of it or nothing."""
    temporary = path.with_suffix(f"{path.suffix}.part")
    temporary.write_text(str(number), encoding="utf-8")
    temporary.rename(path)
