"""From the names that training logs to the metrics that are exported."""

import math
import time
from argparse import Namespace
from typing import Any

from lightning.pytorch.loggers import Logger

from naics_job.loss.objective import TERMS
from naics_job.observability.readings import Readings
from naics_job.training.shares import MECHANISM, TERM

Target = tuple[str, tuple[str, ...]]  # metric, values of its own labels

LOGGED: dict[str, Target] = {
    **{f"train/{term}": ("naics_training_loss", (term,)) for term in (*TERMS, "total")},
    "train/gradient_norm": ("naics_training_gradient_norm", ()),
    "train/margin": ("naics_training_margin", ()),
    "train/edge": ("naics_training_edge_length", ()),
    "train/global_batch/num_codes": ("naics_global_batch_codes", ()),
    "train/global_batch/num_pairs": ("naics_global_batch_pairs", ()),
    "train/global_batch/codes_bytes": ("naics_global_batch_memory_bytes", ("codes",)),
    "train/global_batch/pairs_bytes": ("naics_global_batch_memory_bytes", ("pairs",)),
    "health/max_radius": ("naics_embedding_max_radius", ()),
    "health/mean_distance": ("naics_embedding_mean_distance", ()),
    "health/effective_rank": ("naics_embedding_effective_rank", ()),
    "health/collapsed": ("naics_embedding_collapsed", ()),
    "health/sibling_confusion": ("naics_embedding_sibling_confusion_ratio", ()),
    "health/manifold_error": ("naics_embedding_manifold_error", ()),
}
FAMILIES = {  # begin of a logged name -> metric with the rest of the name as its label
    "all/": "naics_evaluation_score",
    "heldout/": "naics_evaluation_heldout_score",
    "health/radius/level_": "naics_embedding_radius",
    TERM: "naics_training_gradient_share_ratio",
    MECHANISM: "naics_training_mechanism_share_ratio",
}
EVALUATED = "all/"


def target_of(logged: str) -> Target | None:
    """Metric and labels for a logged name, None for what is not exported this way."""
    if logged in LOGGED:
        return LOGGED[logged]
    for prefix, metric in FAMILIES.items():
        if logged.startswith(prefix):
            return metric, (logged.removeprefix(prefix),)
    return None


class ReadingsLogger(Logger):
    """Takes what Lightning logs, which are plain numbers by then, on every process."""

    def __init__(self, readings: Readings) -> None:
        super().__init__()
        self.readings = readings

    @property
    def name(self) -> str:
        return "readings"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kw: Any) -> None:
        """Settings are not exported."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        for logged, value in metrics.items():
            if (target := target_of(logged)) is not None:
                self.readings.set(target[0], float(value), *target[1])
        norm = metrics.get("train/gradient_norm")
        if norm is not None and not math.isfinite(norm):
            self.readings.add("naics_training_nonfinite_total", 1.0, "gradient")
        if step is not None and any(name.startswith(EVALUATED) for name in metrics):
            self.readings.set("naics_evaluation_step", float(step))
            self.readings.set("naics_evaluation_timestamp_seconds", time.time())
