"""What of a saved module is its weights: all but the memory bank.

The memory is saved because a resume is exact, but its size is the number of codes, which a warm
start may change. A warm start fills it anew before its first step. The offsets of codes are weights
that fit the codes they were learned for alone: on other data they start anew as well.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from naics_job.checkpoint.payload import architecture_of
from naics_job.errors import CheckpointError
from naics_job.training.provenance import stored_in

MEMORY = "bank."  # names of the memory's buffers in a NaicsModule begin with this
OFFSETS = "embedder.offsets."  # and those of the codes' offsets with this


def weights_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a module's `state_dict()` that are learned or measured, not remembered."""
    return {name: value for name, value in state.items() if not name.startswith(MEMORY)}


def module_architecture(state: Mapping[str, Tensor]) -> str:
    """Names and shapes of the weights of a module that do not depend on the number of codes."""
    weights = weights_of(state)
    return architecture_of({n: value for n, value in weights.items() if not n.startswith(OFFSETS)})


def weights_in(
    payload: Mapping[str, Any], file: Path, architecture: str, data_digest: str
) -> dict[str, Tensor]:
    """The weights in a checkpoint, which must fit a module of `architecture`.

    Args:
        payload: see `checkpoint.payload.load_payload`.
        file: where it was read from.
        architecture: `module_architecture` of the module that will take them.
        data_digest: of the data of that module; offsets of codes of other data are left out.

    Raises:
        CheckpointError: there are no weights, or they have other names or shapes.
    """
    state = payload.get("state_dict")
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{file} holds no weights", "give a .ckpt file that naics-job wrote")
    stored = module_architecture(state)
    if stored != architecture:
        raise CheckpointError(
            f"{file} is of another architecture: {stored[:12]}, the model is {architecture[:12]}",
            "use the model.* settings of the run that wrote it, or start fresh",
        )
    weights = weights_of(state)
    if stored_in(payload).get("data_digest") == data_digest:
        return weights
    return {name: value for name, value in weights.items() if not name.startswith(OFFSETS)}
