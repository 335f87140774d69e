"""Random masks of training as a function of what they hide, not of who computes it.

A generator hands out numbers in the order of the calls, so two processes that share the rows of a
step would draw other masks than one that has them all. Here a number is a hash of (seed, epoch,
batch, purpose, row, column), the counter-based way of Salmon et al. 2011 (Philox); the mixing
function is that of SplitMix64 (Steele, Lea & Flood 2014), which a few integer operations compute
alike on every device.
"""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # odd, as int64: spreads counters over all bits
FIRST_FACTOR = 0xBF58476D1CE4E5B9 - 2**64
SECOND_FACTOR = 0x94D049BB133111EB - 2**64
MANTISSA_BITS = 24  # of float32


@dataclass(frozen=True)
class RowNoise:
    """The random numbers of some rows in one step.

    Attributes:
        key: of the step.
        rows: `[row]` int64, the number by which every process knows the row.
    """

    key: int
    rows: Tensor

    def uniform(self, purpose: str, width: int) -> Tensor:
        """Numbers in [0, 1), `[row, width]` float32; always the same for a `purpose`."""
        start = _mix(self.rows * GOLDEN + _hash64(f"{self.key}/{purpose}"))  # [row]
        column = torch.arange(1, width + 1, device=self.rows.device) * GOLDEN
        bits = _mix(start[:, None] + column)  # [row, width]
        return _shifted(bits, 64 - MANTISSA_BITS).float() * 2.0**-MANTISSA_BITS

    def kept(self, purpose: str, width: int, rate: float) -> Tensor:
        """Factors of dropout `[row, width]` float32: 0 with probability `rate`, else scaled up."""
        return (self.uniform(purpose, width) >= rate).float() / (1 - rate)

    def at(self, index: Tensor) -> "RowNoise":
        """Of the rows `index`."""
        return RowNoise(self.key, self.rows[index])

    def of(self, rows: Tensor) -> "RowNoise":
        """Of rows with other numbers, in the same step."""
        return RowNoise(self.key, rows)

    def each(self, part: Tensor, num_parts: int) -> "RowNoise":
        """Of one `part` `[row]` of each row, out of `num_parts`."""
        return RowNoise(self.key, self.rows * num_parts + part)


@dataclass(frozen=True)
class StepNoise:
    """The random numbers of one step."""

    key: int

    @classmethod
    def of(cls, *position: int) -> "StepNoise":
        """Of the step at `position`: seed, epoch, batch and so on."""
        return cls(_hash64("/".join(map(str, position))))

    def of_rows(self, rows: Tensor) -> RowNoise:
        """Of `rows` `[row]` int64: numbers by which every process knows the rows."""
        return RowNoise(self.key, rows)


class RowDropout(nn.Module):
    """Dropout whose mask follows the rows, whichever process holds them and in which order."""

    def __init__(self, purpose: str, p: float) -> None:
        super().__init__()
        self.purpose, self.p = purpose, p

    def forward(self, x: Tensor, noise: RowNoise | None) -> Tensor:
        """Drop values of `x` `[row, width]` in training; only then is `noise` of the rows read."""
        if not self.training or self.p == 0:
            return x
        assert noise is not None, "dropout needs the noise of the step"
        return x * noise.kept(self.purpose, x.shape[1], self.p).to(x.dtype)


def _hash64(text: str) -> int:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _shifted(x: Tensor, places: int) -> Tensor:
    """Logical shift to the right; that of int64 copies the sign."""
    return (x >> places) & ((1 << (64 - places)) - 1)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64 of each int64; products wrap around."""
    x = (x ^ _shifted(x, 30)) * FIRST_FACTOR
    x = (x ^ _shifted(x, 27)) * SECOND_FACTOR
    return x ^ _shifted(x, 31)
