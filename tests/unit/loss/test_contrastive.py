"""The decoupled contrastive loss and its margins."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from naics_job.config.load import load_config
from naics_job.loss.contrastive import DecoupledContrastiveLoss
from naics_job.loss.margins import adaptive_margin

CONFIG = replace(load_config().config.loss, temperature=9.0, code_temperature=0.5)
ALL = torch.ones(1, 3, dtype=torch.bool)


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.rand(*shape, dtype=torch.float64, generator=generator)


def test_closed_form() -> None:
    loss = DecoupledContrastiveLoss(CONFIG)
    pull, push = torch.tensor([1.0]), torch.tensor([[2.0, 3.0, 4.0]])
    margin = torch.tensor([[0.0, 0.5, 1.0]])
    expected = 1 / 0.5 + math.log(sum(math.exp(-x / 0.5) for x in (2.0, 2.5, 3.0)))
    assert loss(pull, push, ALL, margin).item() == pytest.approx(expected)


def test_masked_negatives_drop_out() -> None:
    loss = DecoupledContrastiveLoss(CONFIG)
    keep = torch.tensor([[True, False, True, False, True]] * 4)
    pull, push, margin = random(4), random(4, 5), random(4, 5, seed=1)
    expected = loss(pull, push[:, ::2], keep[:, ::2], margin[:, ::2])
    push.requires_grad_()
    found = loss(pull, push, keep, margin)
    found.backward()
    torch.testing.assert_close(found, expected)
    assert push.grad is not None
    assert bool((push.grad[~keep] == 0).all())
    assert bool((push.grad[keep] < 0).all())  # descent moves negatives away


def test_anchor_without_negatives_drops_out_without_nan() -> None:
    loss = DecoupledContrastiveLoss(CONFIG)
    keep = torch.tensor([[True, True, True], [False, False, False]])
    pull, push = random(2).requires_grad_(), random(2, 3).requires_grad_()
    margin = torch.zeros(2, 3)
    found = loss(pull, push, keep, margin)
    found.backward()
    torch.testing.assert_close(found, loss(pull[:1], push[:1], keep[:1], margin[:1]))
    assert pull.grad is not None
    assert push.grad is not None
    assert pull.grad[0] > 0  # descent moves the positive closer
    assert pull.grad[1] == 0
    assert push.grad[1].tolist() == [0, 0, 0]
    nothing = loss(pull, push, torch.zeros_like(keep), margin)
    nothing.backward()
    assert nothing.item() == 0
    assert bool(torch.isfinite(push.grad).all())


def test_gradcheck() -> None:
    loss = DecoupledContrastiveLoss(CONFIG)
    keep = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    inputs = (random(3).requires_grad_(), random(3, 3, seed=2).requires_grad_())
    assert torch.autograd.gradcheck(
        lambda pull, push: loss(pull, push, keep, random(3, 3, seed=3)), inputs
    )


def test_lower_temperature_sharpens_the_push() -> None:
    shares = []
    for temperature in (1.0, 0.1):
        push = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
        loss = DecoupledContrastiveLoss(replace(CONFIG, code_temperature=temperature))
        loss(torch.tensor([0.5]), push, ALL, torch.zeros(1, 3)).backward()
        assert push.grad is not None
        shares.append((push.grad[0, 0] / push.grad.sum()).item())
    assert shares[0] < 0.7
    assert shares[1] > 0.99


def test_margin_closed_form_and_bounds() -> None:
    found = adaptive_margin(
        torch.tensor([0.0, 1.0]), torch.tensor([0.0, 3.0]), torch.tensor([1.0, 0.25]), 0.5
    )
    expected = [[0.0, 0.5 * 2 * 0.375], [0.5 * 1.25 * 0.25, 0.5 * 1.25 * 0.625]]
    torch.testing.assert_close(found, torch.tensor(expected))
    far = adaptive_margin(torch.full((2,), 1e6), torch.full((3,), 1e6), torch.ones(2), 0.5)
    assert far.max() <= 1.0
    assert found.shape == (2, 2)


def test_margin_gives_no_gradient_to_the_radii() -> None:
    radius = torch.ones(3, requires_grad=True)
    assert not adaptive_margin(radius, radius, torch.ones(3), 0.5).requires_grad


@pytest.mark.parametrize("changed", ["base_margin", "pair_margin", "radius"])
def test_margin_changes_the_loss_and_its_gradient(changed: str) -> None:
    values = {"base_margin": (0.2, 0.8), "pair_margin": (0.1, 1.0), "radius": (1.0, 6.0)}[changed]
    losses, gradients = [], []
    for value in values:
        base = value if changed == "base_margin" else 0.5
        pair = torch.tensor([value if changed == "pair_margin" else 1.0])
        code = torch.tensor([1.0, 2.0, value if changed == "radius" else 4.0])
        push = torch.tensor([[1.0, 1.1, 1.2]], requires_grad=True)
        margin = adaptive_margin(torch.ones(1), code, pair, base)
        loss = DecoupledContrastiveLoss(CONFIG)(torch.ones(1), push, ALL, margin)
        loss.backward()
        assert push.grad is not None
        losses.append(loss.item())
        gradients.append(push.grad[0, 2].item())
    assert losses[1] > losses[0] + 0.01
    assert gradients[1] < gradients[0] - 0.001  # the deepest code is pushed harder
