"""Settings of the launcher, the process that starts and watches the training processes."""

from dataclasses import dataclass

from naics_job.config.checks import require_finite


@dataclass(frozen=True, kw_only=True)
class LaunchConfig:
    """Time limits of the launcher, and when it gives up. Values: conf/config.yaml."""

    grace_s: float
    rendezvous_timeout_s: float
    stall_timeout_s: float  # 0: a stall is not noticed
    max_failed_starts: int  # 0: any number

    def __post_init__(self) -> None:
        require_finite("launch.grace_s", self.grace_s, 1)
        require_finite("launch.rendezvous_timeout_s", self.rendezvous_timeout_s, 1)
        require_finite("launch.stall_timeout_s", self.stall_timeout_s)
        require_finite("launch.max_failed_starts", self.max_failed_starts)
