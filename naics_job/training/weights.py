"""What of a saved module is its weights: all but the memory bank.

The memory is saved because a resume is exact, but its size is the number of codes, which a warm
start may change. A warm start fills it anew before its first step.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from naics_job.checkpoint.payload import architecture_of
from naics_job.errors import CheckpointError

MEMORY = "bank."  # names of the memory's buffers in a NaicsModule begin with this


def weights_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a module's `state_dict()` that are learned or measured, not remembered."""
    return {name: value for name, value in state.items() if not name.startswith(MEMORY)}


def weights_in(payload: Mapping[str, Any], file: Path, architecture: str) -> dict[str, Tensor]:
    """The weights in a checkpoint, which must fit a module of `architecture`.

    Args:
        payload: see `checkpoint.payload.load_payload`.
        file: where it was read from.
        architecture: `architecture_of` the weights of the module that will take them.

    Raises:
        CheckpointError: there are no weights, or they have other names or shapes.
    """
    state = payload.get("state_dict")
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{file} holds no weights", "give a .ckpt file that naics-job wrote")
    weights = weights_of(state)
    stored = architecture_of(weights)
    if stored != architecture:
        raise CheckpointError(
            f"{file} is of another architecture: {stored[:12]}, the model is {architecture[:12]}",
            "use the model.* settings of the run that wrote it, or start fresh",
        )
    return weights
