"""The radius term grows with depth and catches runaways that the map can really make."""

import pytest
import torch

from naics_job.geometry.light import EXACT_RADIUS, MAX_RADIUS
from naics_job.geometry.lorentz import exp_map_origin, radius
from naics_job.loss.radius import RadiusLoss

DEPTH = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])


def test_closed_form() -> None:
    loss = RadiusLoss()
    assert loss(DEPTH, DEPTH, 1.0).item() == 0
    assert loss(1.5 * DEPTH, DEPTH, torch.tensor(1.5)).item() == 0
    found = loss(torch.tensor([2.0, 2.0]), torch.tensor([1.0, 4.0]), 1.0)
    assert found.item() == pytest.approx((1 + 4) / 2)
    beyond = loss(torch.tensor([10.0]), torch.tensor([5.0]), 1.0)
    assert beyond.item() == pytest.approx(25 + 4)


@pytest.mark.parametrize("curvature", [0.01, 0.5, 1.0, 50.0])
def test_runaway_is_reachable_and_a_grown_edge_does_not_hide_it(curvature: float) -> None:
    tangent = torch.tensor([[1e4, 0.0]])
    far = curvature**0.5 * radius(exp_map_origin(tangent, curvature), curvature)
    excess = far.item() - EXACT_RADIUS
    assert excess > 0.9 * (MAX_RADIUS - EXACT_RADIUS)
    found = RadiusLoss()(far, torch.tensor([5.0]), far.item() / 5)  # the target fits
    assert found.item() == pytest.approx(excess**2, rel=1e-3)


def test_descent_spreads_the_levels_from_a_collapse() -> None:
    found = torch.full((5,), 2.0, requires_grad=True)
    optimiser = torch.optim.Adam([found], lr=0.05)
    for _ in range(600):
        optimiser.zero_grad()
        RadiusLoss()(found, DEPTH, 0.7).backward()
        optimiser.step()
    torch.testing.assert_close(found, 0.7 * DEPTH, rtol=2e-2, atol=0)


def test_the_edge_gets_no_gradient() -> None:
    edge, found = torch.tensor(0.7, requires_grad=True), DEPTH.clone().requires_grad_()
    RadiusLoss()(found, DEPTH, edge).backward()
    assert edge.grad is None
    assert found.grad is not None
    assert bool(found.grad.any())


def test_small_radii_have_a_gradient_outwards() -> None:
    small = torch.full((5,), 0.01, requires_grad=True)
    RadiusLoss()(small, DEPTH, 1.0).backward()
    assert small.grad is not None
    assert bool((small.grad < -1e-3).all())


def test_gradcheck() -> None:
    loss = RadiusLoss()
    leaf = torch.tensor([0.5, 3.0, 9.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda r: loss(r, DEPTH[:3].double(), 1.0), (leaf,))
