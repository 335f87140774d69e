"""How the last run of an experiment ended, left at a Prometheus Pushgateway.

A Pushgateway never forgets by itself: there is one group per experiment, which the next start
deletes and the next end replaces.
"""

import logging
from collections.abc import Callable
from http.client import HTTPException

from prometheus_client import CollectorRegistry, delete_from_gateway, push_to_gateway

from naics_job.observability.exposition import ReadingsCollector
from naics_job.observability.logs import event

log = logging.getLogger(__name__)
JOB = "naics-train"
TIMEOUT_S = 5.0
PUSHED = frozenset(
    f"naics_{name}"
    for name in (
        "build_info",
        "run_info",
        "run_outcome",
        "run_exit_code",
        "run_goodput_ratio",
        "run_restarts_total",
        "run_lost_steps_total",
        "training_step",
        "training_planned_steps",
        "evaluation_score",
        "evaluation_heldout_score",
        "embedding_collapsed",
        "process_memory_bytes",
        "gpu_memory_bytes",
    )
)


class Pushgateway:
    """One group at a Pushgateway; that it cannot be reached is told and nothing more."""

    def __init__(self, url: str, experiment: str, collector: ReadingsCollector) -> None:
        self.url, self.group = url, {"experiment": experiment}
        self.registry = CollectorRegistry()
        self.registry.register(collector.only(PUSHED))

    def forget(self) -> None:
        """Delete what an earlier run left."""
        self._try(
            lambda: delete_from_gateway(
                self.url, job=JOB, grouping_key=self.group, timeout=TIMEOUT_S
            )
        )

    def push(self) -> None:
        """Leave the outcome of this run."""
        self._try(
            lambda: push_to_gateway(
                self.url,
                job=JOB,
                registry=self.registry,
                grouping_key=self.group,
                timeout=TIMEOUT_S,
            )
        )

    def _try(self, request: Callable[[], None]) -> None:
        try:
            request()
        except (OSError, HTTPException) as error:
            event(log, logging.WARNING, "metrics.push_failed", url=self.url, error=str(error))
