"""Offsets of codes: whose they are, when they rest, and that a query has none."""

import torch

from naics_job.model.code_offsets import CodeOffsets
from naics_job.model.embedder import NO_CODE
from naics_job.model.noise import StepNoise

CODES, DIM = 4000, 3


def filled(dropout: float) -> CodeOffsets:
    """Each row of the table holds the number of its code and more."""
    offsets = CodeOffsets(CODES, DIM, dropout)
    with torch.no_grad():
        assert offsets.table is not None
        offsets.table.copy_(torch.arange(1.0, CODES + 1)[:, None].expand(-1, DIM))
    return offsets


def test_a_code_has_its_own_and_a_query_none() -> None:
    found = filled(0.5).eval()(torch.tensor([7, NO_CODE, 0]), None)
    assert found[:, 0].tolist() == [8.0, 0.0, 1.0]
    assert not CodeOffsets(CODES, DIM, 0.5).table.any()  # at the start the texts say everything


def test_in_training_a_share_of_the_codes_stands_without_it() -> None:
    offsets = filled(0.3).train()
    code = torch.arange(CODES)
    noise = StepNoise.of(1).of_rows(code.flip(0))  # the place of a code in the step does not matter
    found = offsets(code, noise)[:, 0]
    absent = found == 0
    assert abs(float(absent.float().mean()) - 0.3) < 0.03
    assert torch.equal(found[~absent], code[~absent] + 1.0)
    swapped = offsets(code.flip(0), StepNoise.of(1).of_rows(code))[:, 0]
    assert torch.equal(swapped.flip(0), found)
    assert not torch.equal(offsets(code, StepNoise.of(2).of_rows(code))[:, 0], found)


def test_only_the_codes_of_a_step_learn() -> None:
    offsets = filled(0.0).train()
    offsets(torch.tensor([2, 5, NO_CODE]), None).sum().backward()
    assert offsets.table.grad.any(dim=1).nonzero().flatten().tolist() == [2, 5]


def test_without_offsets_there_is_no_table() -> None:
    offsets = CodeOffsets(CODES, DIM, 1.0).train()
    assert not list(offsets.parameters())
    found = offsets(torch.tensor([1, 2]), StepNoise.of(1).of_rows(torch.arange(2)))
    assert found.shape == (2, DIM)
    assert not found.any()
