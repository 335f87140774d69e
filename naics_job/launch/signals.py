"""The signals that ask the launcher to stop, caught from its first moment on.

The first process of a container has no default action for SIGTERM: without a handler the signal
is lost, and the run is killed when the grace period is over.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

CAUGHT = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Whether, when and how often the launcher was asked to stop.

    Attributes:
        number: of the first signal, None before.
        at: time.monotonic() of the first.
        num_interrupts: how often Ctrl-C was pressed; the second one does not wait for the step.
        at_once: whether a signal ends the launcher where it is: nothing that could save runs yet.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.at = 0.0
        self.num_interrupts = 0
        self.at_once = True

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal. Raises SystemExit with 128 + its number while `at_once`."""
        if self.number is None:
            self.number, self.at = number, time.monotonic()
        self.num_interrupts += number == signal.SIGINT
        if self.at_once:
            raise SystemExit(128 + number)

    @property
    def code(self) -> int | None:
        """The exit code of a process that ended because of the signal."""
        return None if self.number is None else 128 + self.number


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Catch signals for the length of the body."""
    request = StopRequest()
    previous = {number: signal.signal(number, request) for number in CAUGHT}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
