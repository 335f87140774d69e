"""Try again after storage or network trouble, with full jitter."""

import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic
from typing import TypeVar

from naics_job.errors import TransientError

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """How long a request is repeated, and the longest pauses between, seconds."""

    attempts: int
    base_s: float
    cap_s: float
    budget_s: float = math.inf  # from the first attempt; the last one comes when it is used up


# Until settings are read, which replace `budget_s`. What the client of a service tries itself, 7 s
# where nobody answers, comes on top.
PATIENCE = Patience(attempts=1_000_000, base_s=0.5, cap_s=15.0, budget_s=60.0)

ONCE = Patience(attempts=1, base_s=0.0, cap_s=0.0)


def be_patient(minutes: float) -> None:
    """Repeat requests of this process for so long from now on: setting `storage.retry_minutes`."""
    global PATIENCE  # noqa: PLW0603  (process-wide, as every thread asks the same storage)
    PATIENCE = replace(PATIENCE, budget_s=minutes * 60.0)


def jitter_s(failures: int, base_s: float, cap_s: float, rng: random.Random) -> float:
    """The pause after `failures` n in a row: uniform in [0, min(cap_s, base_s * 2 ** (n - 1))].

    "Full jitter": many processes that failed together do not come back together.
    """
    # min() on the exponent keeps 2 ** n a float when failures are counted in thousands
    return rng.uniform(0.0, min(cap_s, base_s * 2.0 ** min(failures - 1, 60)))


def with_retries(  # noqa: PLR0913  (by keyword)
    action: Callable[[], T],
    *,
    attempts: int,
    base_s: float,
    cap_s: float,
    rng: random.Random,
    budget_s: float = math.inf,
    sleep: Callable[[float], None] = time.sleep,
    name: str = "storage.retry",
) -> T:
    """Return what `action` returns, calling it again after each `TransientError`.

    The pauses are those of `jitter_s`.

    Args:
        action: must be safe to repeat.
        attempts: calls in all, at least 1.
        base_s: longest first pause, seconds.
        cap_s: longest pause, seconds.
        rng: source of the jitter; never the generator that training draws from.
        budget_s: time from the first call after which one last call is made, seconds.
        sleep: replaced in tests.
        name: of the event that tells of each retry.

    Raises:
        TransientError: that of the last attempt.
    """
    assert attempts >= 1
    started, attempt = monotonic(), 0
    while True:
        try:
            return action()
        except TransientError as error:
            attempt += 1
            left_s = budget_s - (monotonic() - started)
            if attempt >= attempts or left_s <= 0.0:
                raise
            pause_s = min(jitter_s(attempt, base_s, cap_s, rng), left_s)
            fields = {"attempt": attempt, "pause_s": round(pause_s, 3), "error": str(error.args[0])}
            log.warning(name, extra={"fields": fields})
            sleep(pause_s)
