"""The roles of the codes in one step, as positions into the list of unique codes to encode."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from naics_job.data.sampler import AnchorBatch
from naics_job.taxonomy.tree import IntArray


@dataclass(frozen=True)
class CodeBatch:
    """Anchors, positives and negatives of a step over its unique codes; each is encoded once.

    Attributes:
        codes: `[code]` int64 positions in the taxonomy, sorted, no code twice.
        anchor, positive: `[batch]` int64 rows of `codes`.
        negative: `[batch, k]` int64 rows of `codes`.
        relation, distance: `[batch]` int64, of the positive to its anchor.
        margin: `[batch]` float32.
        epoch, index: which global batch this is.
    """

    codes: Tensor
    anchor: Tensor
    positive: Tensor
    negative: Tensor
    relation: Tensor
    distance: Tensor
    margin: Tensor
    epoch: int
    index: int

    def to(self, device: torch.device) -> "CodeBatch":
        """The same batch on `device`."""
        return replace(
            self,
            codes=self.codes.to(device),
            anchor=self.anchor.to(device),
            positive=self.positive.to(device),
            negative=self.negative.to(device),
            relation=self.relation.to(device),
            distance=self.distance.to(device),
            margin=self.margin.to(device),
        )


def code_batch(batch: AnchorBatch, negatives: IntArray, asked: IntArray) -> CodeBatch:
    """Name the roles of `batch` and its `negatives` `[batch, k]` by rows of the unique codes.

    The codes `asked` `[query]` by the texts of the step are encoded too.
    """
    size = len(batch.anchors)
    everyone = np.concatenate([batch.anchors, batch.positives, negatives.ravel(), asked])
    codes, row = np.unique(everyone, return_inverse=True)
    chosen = row[2 * size : 2 * size + negatives.size]
    return CodeBatch(
        codes=torch.from_numpy(codes.astype(np.int64)),
        anchor=torch.from_numpy(row[:size].copy()),
        positive=torch.from_numpy(row[size : 2 * size].copy()),
        negative=torch.from_numpy(chosen.reshape(size, -1).copy()),
        relation=torch.from_numpy(batch.relation.astype(np.int64)),
        distance=torch.from_numpy(batch.distance.astype(np.int64)),
        margin=torch.from_numpy(batch.margin.astype(np.float32)),
        epoch=batch.epoch,
        index=batch.index,
    )
