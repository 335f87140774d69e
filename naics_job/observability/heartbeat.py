"""What a training process tells its launcher: signs of life, which run it trains, how that ended.

The launcher names a folder on this machine in NAICS_LAUNCH_DIR; without one, nothing is written.
A beat comes from the thread that trains, never from a thread of its own, which would go on beating
while training hangs.
"""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

FOLDER_VARIABLE = "NAICS_LAUNCH_DIR"
BEAT, RUN, SUMMARY = ".beat", ".run", ".summary"
INTERVAL_S = 1.0


@dataclass(frozen=True)
class Pulse:
    """The newest sign of life or begin of a rest, on the monotonic clock; -inf before any."""

    at: float
    rests: bool


_pulse = Pulse(float("-inf"), rests=True)


def pulse() -> Pulse:
    """What this process last showed, to at most a second; also without a launcher."""
    return _pulse


def beat() -> None:
    """Show that this process is alive; from now on the launcher watches it. Costs a clock reading.

    Writes at most once a second.
    """
    global _pulse  # noqa: PLW0603  (one process has one heart)
    now = time.monotonic()
    if not _pulse.rests and now - _pulse.at < INTERVAL_S:
        return
    _pulse = Pulse(now, rests=False)
    if (path := _file(BEAT)) is not None:
        path.touch()


def rest() -> None:
    """Not be watched until the next beat: a long wait for another process or for storage begins."""
    global _pulse  # noqa: PLW0603
    _pulse = Pulse(time.monotonic(), rests=True)
    if (path := _file(BEAT)) is not None:
        path.unlink(missing_ok=True)


def note_run(root_url: str, run_id: str) -> None:
    """Tell which run of which checkpoint folder is trained; the newest call counts."""
    if (path := _file(RUN)) is not None:
        write_whole(path, f"{root_url}\n{run_id}")


def note_summary(text: str) -> None:
    """Tell how the run ended, as JSON."""
    if (path := _file(SUMMARY)) is not None:
        write_whole(path, text)


def local_name() -> str:
    """The name of this process among those of its launcher."""
    return os.environ.get("LOCAL_RANK") or os.environ.get("RANK") or "0"


def write_whole(path: Path, text: str) -> None:
    """Write so that a reader sees all of it or nothing."""
    temporary = path.with_suffix(f"{path.suffix}.part")
    temporary.write_text(text, encoding="utf-8")
    with suppress(FileNotFoundError):  # the launcher has ended and taken its folder along
        temporary.rename(path)


def _file(suffix: str) -> Path | None:
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder or not Path(folder).is_dir():
        return None
    return Path(folder) / f"{local_name()}{suffix}"
