"""What each code weighs as a wrong answer of a text, and what it would without one mechanism."""

from dataclasses import dataclass, replace

import numpy as np

from naics_job.data.sampler import FloatArray
from naics_job.taxonomy.tree import BoolArray

TINY = 1e-300  # sum of the weights of a text without a wrong answer


@dataclass(frozen=True)
class WrongAnswers:
    """The parts of the weight of every code as a wrong answer of every text of a step.

    Attributes:
        keep: codes that may be a wrong answer, `[query, code]`.
        weight: what they weigh against each other before mining, `[query, code]`, 0 outside `keep`.
        near: those of `keep` that were mined by distance, `[query, code]`.
        alike: those of `keep` that the router chose, `[query, code]`.
        named: extra weight of codes that say a text is not their own, `[query, code]`.
        hard_share: of the weight that goes to what was mined.
    """

    keep: BoolArray
    weight: FloatArray
    near: BoolArray
    alike: BoolArray
    named: FloatArray
    hard_share: float

    def log_weight(self) -> FloatArray:
        """Log weight `[query, code]`, 0 on average; -inf for what is no wrong answer."""
        chosen = self.near | self.alike
        total = self.weight.sum(axis=1, keepdims=True)
        count = chosen.sum(axis=1, keepdims=True)
        share = np.where(count > 0, self.hard_share, 0.0)  # [query, 1], of what was mined
        weight = self.weight * ((1 - share) / np.maximum(total, TINY))
        weight += chosen * share / np.maximum(count, 1)
        weight += self.named
        weight *= self.keep.sum(axis=1, keepdims=True)  # on average 1, whatever their number is
        with np.errstate(divide="ignore"):
            logs: FloatArray = np.log(weight)
        return logs

    def over(self, keep: BoolArray) -> "WrongAnswers":
        """The same with the codes `keep`, all of one weight before mining."""
        return replace(self, keep=keep, weight=keep.astype(np.float64))

    def without_parts(self) -> dict[str, "WrongAnswers"]:
        """By the name of each mechanism that acts here: the same without it."""
        none = np.zeros_like(self.near)
        found = {}
        if self.hard_share > 0:
            found["mining"] = replace(self, near=none, alike=none, hard_share=0.0)
        if self.alike.any():
            share = self.hard_share if self.near.any() else 0.0
            found["router"] = replace(self, alike=none, hard_share=share)
        if self.named.any():
            found["cross_reference_negatives"] = replace(self, named=np.zeros_like(self.named))
        return found
