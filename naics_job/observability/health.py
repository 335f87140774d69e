"""Whether a process makes progress, as a liveness probe asks: not whether it is alive.

A process without a sign of life is left alone for `start_s` while it starts, and whenever it says
that it waits for others or for storage; while it trains, for `stall_s`. All on the monotonic clock.
"""

import time
from collections.abc import Callable

from naics_job.config.metrics_schema import MetricsConfig
from naics_job.observability import heartbeat


class Health:
    """The answers of /healthz and /readyz.

    Args:
        config: the time limits.
        clock: seconds that only go forward.
    """

    def __init__(self, config: MetricsConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self.start_s, self.stall_s, self.clock = config.start_s, config.stall_s, clock
        self.began = clock()
        self.training = False  # whether the first step is done
        self.ended = False
        self._sign = self.began

    def sign(self) -> None:
        """Note progress: a step."""
        self._sign, self.training = self.clock(), True

    def step_age_s(self) -> float | None:
        """Seconds since the newest step, None before the first one."""
        return self.clock() - self._sign if self.training else None

    def alive(self) -> tuple[bool, str]:
        """Whether to go on, and why."""
        if self.ended:
            return True, "the run has ended"
        pulse = heartbeat.pulse()
        waits = pulse.rests or not self.training
        newest = max(self._sign, pulse.at)
        age, limit = self.clock() - newest, self.start_s if waits else self.stall_s
        doing = "waiting or starting" if waits else "training"
        told = f"{doing}, last sign of progress {age:.0f} s ago"
        if age <= limit:
            return True, told
        key = "metrics.start_s" if waits else "metrics.stall_s"
        return False, f"{told}, more than {key}={limit:g}"

    def ready(self) -> tuple[bool, str]:
        """Whether the first step is done."""
        if self.training:
            return True, "training"
        return False, "the first step is not done"
