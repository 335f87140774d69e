"""Distance regression on the tree."""

import pytest
import torch

from naics_job.loss.hierarchy import HierarchyLoss

TREE = torch.tensor([[0.0, 1.0, 2.0, 4.0, 10.0], [1.0, 0.0, 3.0, 5.0, 9.0]])
ALL = torch.ones_like(TREE, dtype=torch.bool)


def test_closed_form() -> None:
    loss = HierarchyLoss()
    distance = torch.tensor([[7.0, 1.5, 6.0]])
    tree = torch.tensor([[0.0, 1.0, 2.0]])
    # errors 0.5 and 4, squared over 1 and 2 edges; the first pair is the code itself
    found = loss(distance, tree, torch.ones(1, 3, dtype=torch.bool))
    assert found.item() == pytest.approx((0.25 + 8) / 2)


def test_a_scaled_tree_costs_nothing_at_its_scale() -> None:
    loss = HierarchyLoss()
    assert loss(TREE, TREE, ALL).item() == pytest.approx(0)
    assert loss(1.7 * TREE, TREE, ALL).item() > 0.1
    loss.log_scale.data.fill_(torch.tensor(1.7).log())
    assert loss.scale.item() == pytest.approx(1.7)
    assert loss(1.7 * TREE, TREE, ALL).item() == pytest.approx(0, abs=1e-10)


def test_descent_finds_the_tree_and_the_scale() -> None:
    loss = HierarchyLoss()
    distance = torch.full_like(TREE, 4.0).requires_grad_()
    optimiser = torch.optim.Adam([distance, loss.log_scale], lr=0.05)
    for _ in range(800):
        optimiser.zero_grad()
        loss(distance, TREE, ALL).backward()
        optimiser.step()
    pairs = TREE > 0
    ratio = (distance / TREE)[pairs].detach()
    torch.testing.assert_close(ratio, torch.full_like(ratio, loss.scale.item()), rtol=1e-2, atol=0)
    assert distance[0, 0].item() == 4.0  # a code and itself: no pair


def test_masked_pairs_drop_out() -> None:
    loss = HierarchyLoss()
    distance = (TREE + 0.5).requires_grad_()
    keep = ALL.clone()
    keep[0, 2] = False
    loss(distance, TREE, keep).backward()
    assert distance.grad is not None
    assert distance.grad[0, 2] == 0
    assert distance.grad[0, 3] > 0
    nothing = loss(distance, TREE, torch.zeros_like(ALL))
    assert nothing.item() == 0
    nothing.backward()
    assert bool(torch.isfinite(distance.grad).all())


def test_gradcheck() -> None:
    loss = HierarchyLoss().double()
    distance = (TREE.double() * 1.3 + 0.1).requires_grad_()

    def value(leaf: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
        loss.log_scale.data = log_scale.data
        return torch.func.functional_call(
            loss, {"log_scale": log_scale}, (leaf, TREE.double(), ALL)
        )

    scale = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(value, (distance, scale))
