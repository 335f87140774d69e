"""Being told to stop, from the first moment of a command to its last.

SIGTERM and Ctrl-C end what can be ended at any moment (preparing, evaluating, publishing) with
`StopNow`. While a run trains they are remembered instead, and training ends after the optimizer
step, when its state is saved. Either way the process leaves with 128 + the number of the signal.
"""

import math
import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from naics_job.errors import NaicsJobError

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopNow(BaseException):
    """Ends what can be ended at any moment; no Exception, which a handler of failures may eat."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class StoppedBySignalError(NaicsJobError):
    """The run was told to stop; nothing is lost, and it can be resumed."""

    def __init__(self, message: str, hint: str, exit_code: int) -> None:
        super().__init__(message, hint)
        self.exit_code = exit_code

    def __reduce__(self) -> Any:
        return type(self), (str(self.args[0]), self.hint, self.exit_code)


class Stop:
    """What this process knows about being told to stop.

    Attributes:
        number: the first signal that came, None while none has.
        told_at: `time.monotonic()` when it came.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.told_at = 0.0
        self._remembers = self._over = False
        self._noticed: int | None = None
        self._ignored: int | None = None
        self._inlet, self._outlet = os.pipe()
        os.set_blocking(self._inlet, False)
        os.set_blocking(self._outlet, False)

    def tell(self, number: int, frame: FrameType | None = None) -> None:
        """The handler of the signals.

        Raises:
            StopNow: at the first signal, outside of `remembered`.
            KeyboardInterrupt: Ctrl-C after any signal: do not wait for the end of anything.
        """
        if self._over:
            self._ignored = number
            return
        again = self.number is not None
        if not again:
            self.number, self.told_at = number, time.monotonic()
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        if not again and not self._remembers:
            raise StopNow(number)

    @contextmanager
    def remembered(self) -> Iterator[None]:
        """Within the body a signal is only noted; the body looks at `number` at its borders.

        Raises:
            StopNow: a signal came, and the body came to its end all the same.
        """
        self.check()
        self._remembers = True
        try:
            yield
        finally:
            self._remembers = False
        self.check()

    def finish(self) -> None:
        """From here on signals mean nothing: the process is done and ends within moments.

        Raises:
            StopNow: a signal came before.
        """
        self.check()
        self.ignore()

    def ignore(self) -> None:
        """From here on signals mean nothing, whatever came before; `noticed` still sees them."""
        self._over = True

    def heed(self) -> None:
        """Signals mean something (again): a run begins, perhaps the next one of this process.

        Raises:
            StopNow: one came since the last run was done.
        """
        self._over = False
        if self._ignored is not None:
            number, self._ignored = self._ignored, None
            self.tell(number)

    def check(self) -> None:
        """Raise `StopNow` if a signal came; a destructor may have swallowed the first one."""
        if self.number is not None:
            raise StopNow(self.number)

    def error(self, when: str, hint: str) -> StoppedBySignalError:
        """The error that ends the run: `when` says at which point, `hint` how to go on."""
        number = self.number or signal.SIGTERM
        text = f"stopped by {signal.Signals(number).name} {when}"
        return StoppedBySignalError(text, hint, 128 + number)

    def noticed(self, timeout_s: float) -> int | None:
        """Wait up to `timeout_s` for a signal and return its number; for another thread.

        Sees a signal at once, while the main thread runs its handler only when it is back from
        whatever it waits for in C, such as a collective.
        """
        known = self.number or self._noticed
        if known is None and select.select([self._inlet], [], [], timeout_s)[0]:
            numbers = [number for number in os.read(self._inlet, 64) if number in SIGNALS]
            self._noticed = known = numbers[0] if numbers else None
        elif known is not None:
            time.sleep(timeout_s)
        return known

    def close(self) -> None:
        """Give back what the operating system lent."""
        os.close(self._inlet)
        os.close(self._outlet)

    def wake_by(self) -> int:
        """File descriptor to which the system writes the number of each signal that comes."""
        return self._outlet

    def seconds_left(self, grace_s: float) -> float:
        """What is left of the `grace_s` seconds after a signal; without one there is no end."""
        if self.number is None:
            return math.inf
        return self.told_at + grace_s - time.monotonic()


_current: Stop | None = None


@contextmanager
def listening() -> Iterator[Stop]:
    """Handle the signals for the length of the body; within another such body, share its `Stop`.

    Threads other than the main one cannot handle signals, and get a `Stop` that none reaches.
    """
    global _current  # noqa: PLW0603  (signals belong to the process, and so does this)
    if _current is not None:
        yield _current
        return
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        try:
            yield stop
        finally:
            stop.close()
        return
    _current = stop
    waked = signal.set_wakeup_fd(stop.wake_by(), warn_on_full_buffer=False)
    before = {number: signal.signal(number, stop.tell) for number in SIGNALS}
    try:
        yield stop
    finally:
        _current = None
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(waked)
        stop.close()
