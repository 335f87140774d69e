"""Which part of a saved module is its weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from naics_job.curriculum.mining import MemoryBank
from naics_job.errors import CheckpointError
from naics_job.model.code_offsets import CodeOffsets
from naics_job.training.provenance import PAYLOAD_KEY
from naics_job.training.weights import module_architecture, weights_in

FILE = Path("some.ckpt")


class Tiny(nn.Module):
    """A module that remembers `num_codes` codes."""

    def __init__(self, num_codes: int, dim: int = 2) -> None:
        super().__init__()
        self.embedder = nn.Linear(3, dim)
        self.embedder.offsets = CodeOffsets(num_codes, dim, 0.5)
        self.bank = MemoryBank(np.ones(num_codes, dtype=bool), dim, 2)


def architecture(module: nn.Module) -> str:
    return module_architecture(module.state_dict())


def payload_of(module: nn.Module, data_digest: str = "abc") -> dict[str, object]:
    return {"state_dict": module.state_dict(), PAYLOAD_KEY: {"data_digest": data_digest}}


def test_the_number_of_codes_is_no_part_of_the_architecture() -> None:
    assert architecture(Tiny(60)) == architecture(Tiny(50))
    assert architecture(Tiny(60)) != architecture(Tiny(60, dim=3))


def test_weights_move_to_another_number_of_codes() -> None:
    old, new = Tiny(60), Tiny(50)
    old.bank.filled[:] = True
    weights = weights_in(payload_of(old), FILE, architecture(new), "other")
    new.load_state_dict(weights, strict=False)
    assert torch.equal(new.embedder.weight, old.embedder.weight)
    assert new.bank.filled.tolist() == [False] * 50


@pytest.mark.parametrize("digest", ["abc", "other"])
def test_offsets_stay_with_the_data_they_were_learned_on(digest: str) -> None:
    old, new = Tiny(60), Tiny(60)
    nn.init.ones_(old.embedder.offsets.table)
    weights = weights_in(payload_of(old), FILE, architecture(new), digest)
    new.load_state_dict(weights, strict=False)
    assert bool((new.embedder.offsets.table == (digest == "abc")).all())


def test_weights_that_do_not_fit_are_refused() -> None:
    state = Tiny(60, dim=3).state_dict()
    with pytest.raises(CheckpointError, match=r"some\.ckpt is of another architecture") as caught:
        weights_in({"state_dict": state}, FILE, architecture(Tiny(60)), "abc")
    assert "model." in caught.value.hint


@pytest.mark.parametrize("payload", [{}, {"state_dict": 3}, {"state_dict": {"a": "text"}}])
def test_a_file_without_weights_is_refused(payload: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match="holds no weights"):
        weights_in(payload, FILE, architecture(Tiny(60)), "abc")
