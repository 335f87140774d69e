"""Settings of the exporter, which shows a run to Prometheus and to probes."""

from dataclasses import dataclass

from naics_job.config.checks import require, require_choice, require_finite


@dataclass(frozen=True, kw_only=True)
class MetricsConfig:
    """Where metrics are served, and how long silence is no failure. Values: conf/config.yaml."""

    enabled: bool
    address: str | None  # IP address or host name to listen on; null: by where the run is
    port: int  # of local rank 0, the next ones follow; 0: any free ones
    port_taken: str  # next | fail
    start_s: float
    stall_s: float
    linger_s: float | None  # null: by where the run is
    pushgateway: str | None  # URL; null: outcomes are not pushed

    def __post_init__(self) -> None:
        require(0 <= self.port <= 65000, "metrics.port", self.port, "in [0, 65000]; 0: any")
        require_choice("metrics.port_taken", self.port_taken, ("next", "fail"))
        require_finite("metrics.start_s", self.start_s, 1)
        require_finite("metrics.stall_s", self.stall_s, 1)
        if self.linger_s is not None:
            require_finite("metrics.linger_s", self.linger_s)
        url = self.pushgateway
        good = url is None or url.startswith(("http://", "https://"))
        require(good, "metrics.pushgateway", url, "null or a URL such as http://host:9091")
