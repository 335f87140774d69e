"""Clusters of phase 3: a negative in the anchor's cluster is likely a false one."""

from typing import Any

import numpy as np
import torch

from naics_job.config.train_schema import CurriculumConfig
from naics_job.curriculum.mining import MemoryBank
from naics_job.errors import CheckpointError
from naics_job.geometry.kmeans import lorentz_kmeans
from naics_job.taxonomy.tree import BoolArray, IntArray

NO_CLUSTER = -1


class ClusterState:
    """The newest cluster label of every code, and the epoch it was made in.

    Attributes:
        labels: `[code]` int64; -1 for codes outside every cluster, which are never masked.
        epoch: epoch of the newest clustering, -1 before the first.
    """

    def __init__(self, num_codes: int) -> None:
        self.labels: IntArray = np.full(num_codes, NO_CLUSTER, dtype=np.int64)
        self.epoch = -1

    @property
    def num_clusters(self) -> int:
        """Clusters with at least one code."""
        return len(np.unique(self.labels[self.labels >= 0]))

    def assign(self, labels: IntArray, epoch: int) -> None:
        """Replace all labels `[code]` by those made in `epoch`."""
        assert labels.shape == self.labels.shape
        self.labels, self.epoch = np.array(labels, dtype=np.int64), epoch

    def same(self, rows: IntArray, cols: IntArray) -> BoolArray:
        """`[rows, cols]`: whether both codes are in one cluster."""
        row, col = self.labels[rows][:, None], self.labels[cols][None, :]
        together: BoolArray = (row == col) & (row >= 0)
        return together

    def state_dict(self) -> dict[str, Any]:
        """Plain containers for a checkpoint."""
        return {"labels": torch.from_numpy(self.labels.copy()), "epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`.

        Raises:
            CheckpointError: the labels belong to another number of codes.
        """
        labels = state["labels"].cpu().numpy()
        if labels.shape != self.labels.shape:
            raise CheckpointError(
                f"the checkpoint has cluster labels of {len(labels)} codes, the taxonomy has "
                f"{len(self.labels)}",
                "resume with the data of the first start, or start a new run",
            )
        self.assign(labels, int(state["epoch"]))


def refresh(
    bank: MemoryBank, config: CurriculumConfig, curvature: float, generator: torch.Generator
) -> IntArray:
    """Cluster the stored points: labels `[code]` int64, -1 without a point or where held out.

    A memory that was restored may hold points of codes that are not allowed now.
    Spherical start, then Lorentzian k-means with `fn_num_clusters` and `fn_max_iterations`. The
    same memory and generator state give the same labels on every process.
    """
    labels = np.full(len(bank.filled), NO_CLUSTER, dtype=np.int64)
    filled = (bank.filled & bank.allowed).nonzero()[:, 0]
    if len(filled):
        result = lorentz_kmeans(
            bank.points[filled],
            config.fn_num_clusters,
            config.fn_max_iterations,
            curvature,
            generator,
        )
        labels[filled.cpu().numpy()] = result.labels.cpu().numpy()
    return labels
