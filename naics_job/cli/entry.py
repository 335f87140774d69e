"""The installed command. It answers signals before it imports anything that takes time."""

import signal
import sys
from types import FrameType


def main() -> None:
    """Run the command line.

    `launch` may be the first process of a container, to which a SIGTERM without a handler does
    nothing at all.
    """
    if sys.argv[1:2] == ["launch"]:
        signal.signal(signal.SIGTERM, _end)

    from naics_job.cli.app import main as run

    run()


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
