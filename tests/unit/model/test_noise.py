"""Masks of a step: they follow the rows, whoever holds them, and hide the right share."""

import pytest
import torch
from torch import Tensor

from naics_job.model.noise import RowDropout, RowNoise, StepNoise

STEP = (42, 3, 5, 0)


def noise(rows: int | list[int], *step: int) -> RowNoise:
    numbers = torch.arange(rows) if isinstance(rows, int) else torch.tensor(rows)
    return StepNoise.of(*(step or STEP)).of_rows(numbers)


@pytest.mark.parametrize("num_shares", [2, 3, 7])
def test_a_row_has_its_numbers_in_every_share(num_shares: int) -> None:
    whole = noise(20).uniform("experts", 9)
    parts = torch.arange(20).tensor_split(num_shares)
    shares = [StepNoise.of(*STEP).of_rows(rows).uniform("experts", 9) for rows in parts]
    assert torch.equal(torch.cat(shares), whole)
    assert torch.equal(noise([13, 2, 13]).uniform("experts", 9), whole[[13, 2, 13]])
    assert torch.equal(noise(20).at(torch.tensor([4, 19])).uniform("experts", 9), whole[[4, 19]])
    assert torch.equal(noise(20).uniform("experts", 4), whole[:, :4])


def test_every_step_purpose_and_part_has_numbers_of_its_own() -> None:
    drawn = [noise(6).uniform("experts", 8), noise(6).uniform("channels", 8)]
    steps = [(42, 3, 5, 4), (42, 3, 6, 0), (42, 4, 5, 0), (7, 3, 5, 0), (4, 23, 5, 0)]
    drawn += [noise(6, *step).uniform("experts", 8) for step in steps]
    drawn += [noise(6).each(torch.full((6,), p), 3).uniform("experts", 8) for p in range(3)]
    values = torch.stack(drawn).flatten(1)  # [case, number]
    different = {tuple(row) for row in values.tolist()}
    assert len(different) == len(drawn)
    assert len(values[0].unique()) == values.shape[1]  # nor do rows or columns repeat


def test_numbers_are_uniform_and_unrelated() -> None:
    drawn = noise(4000).uniform("experts", 64)
    assert drawn.dtype == torch.float32
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = torch.histc(drawn, bins=16, min=0, max=1) / drawn.numel()
    torch.testing.assert_close(counts, torch.full((16,), 1 / 16), rtol=0, atol=2e-3)
    related = [torch.corrcoef(drawn.T), torch.corrcoef(drawn[:64])]
    bounds = [0.1, 0.6]  # of 4,000 and of 64 pairs: six standard deviations and five
    for matrix, bound in zip(related, bounds, strict=True):
        assert (matrix - torch.eye(64)).abs().max() < bound


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9])
def test_rates_are_right_and_the_mean_stays(rate: float) -> None:
    kept = noise(4000).kept("experts", 64, rate)
    assert abs((kept == 0).float().mean() - rate) < 5e-3
    assert set(kept.unique().tolist()) == {0.0, torch.tensor(1.0).div(1 - rate).item()}
    assert abs(kept.mean() - 1) < 0.03


def test_numbers_are_those_of_earlier_versions() -> None:
    """A resume with another version of the program must go on with the same masks."""
    rows = noise([0, 1, -(2**63), 2**63 - 1]).uniform("experts", 2)
    expected = [[13949344, 11865240], [15474319, 9794279], [3655948, 6577711], [3909394, 6548792]]
    assert (rows * 2**24).long().tolist() == expected


def test_the_generator_of_torch_is_left_alone() -> None:
    before = torch.get_rng_state()
    noise(4).kept("experts", 3, 0.5)
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_acts_in_training_only_and_keeps_the_type() -> None:
    drop = RowDropout("experts", 0.5)
    x = torch.ones(40, 8, dtype=torch.bfloat16, requires_grad=True)
    dropped: Tensor = drop(x, noise(40))
    assert dropped.dtype == torch.bfloat16
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    dropped.sum().backward()
    assert torch.equal(x.grad, dropped.detach())  # type: ignore[arg-type]
    assert torch.equal(drop(x[:3], noise(40).at(torch.arange(3))), dropped[:3])
    with pytest.raises(AssertionError, match="noise of the step"):
        drop(x, None)
    assert drop.eval()(x, None) is x
    assert RowDropout("experts", 0.0).train()(x, None) is x
