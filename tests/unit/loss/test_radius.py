"""The radius term grows with depth and catches runaways that the map can really make."""

import pytest
import torch

from naics_job.geometry.lorentz import exact_radius, exp_map_origin, max_radius, radius
from naics_job.loss.radius import RadiusLoss

DEPTH = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])


def test_closed_form() -> None:
    loss = RadiusLoss()
    assert loss(DEPTH, DEPTH, 1.0).item() == 0
    found = loss(torch.tensor([2.0, 2.0]), torch.tensor([1.0, 4.0]), 1.0)
    assert found.item() == pytest.approx((1 + 4) / 2)
    beyond = loss(torch.tensor([10.0]), torch.tensor([5.0]), 1.0)
    assert beyond.item() == pytest.approx(25 + 4)


@pytest.mark.parametrize("curvature", [0.5, 1.0, 2.0, 50.0])
def test_runaway_is_reachable_and_a_grown_step_does_not_hide_it(curvature: float) -> None:
    tangent = torch.tensor([[1e3, 0.0]])
    far = radius(exp_map_origin(tangent, curvature), curvature)
    loss = RadiusLoss()
    loss.log_step.data = (far / 5).log().squeeze()  # the target fits the runaway
    excess = far.item() - float(exact_radius(curvature))
    assert excess > 0.3 * float(max_radius(curvature))
    found = loss(far, torch.tensor([5.0]), curvature)
    assert found.item() == pytest.approx(excess**2, rel=1e-3)


def test_descent_spreads_the_levels_from_a_collapse() -> None:
    loss = RadiusLoss()
    found = torch.full((5,), 2.0, requires_grad=True)
    optimiser = torch.optim.Adam([found, loss.log_step], lr=0.05)
    for _ in range(600):
        optimiser.zero_grad()
        loss(found, DEPTH, 1.0).backward()
        optimiser.step()
    assert bool((found.diff() > 0.2).all())
    torch.testing.assert_close(found / DEPTH, loss.step.expand(5), rtol=2e-2, atol=0)


def test_small_radii_have_a_gradient_outwards() -> None:
    small = torch.full((5,), 0.01, requires_grad=True)
    RadiusLoss()(small, DEPTH, torch.tensor(1.0, requires_grad=True)).backward()
    assert small.grad is not None
    assert bool((small.grad < -1e-3).all())


def test_gradcheck() -> None:
    loss = RadiusLoss().double()
    leaf = torch.tensor([0.5, 3.0, 9.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda r: loss(r, DEPTH[:3].double(), 1.0), (leaf,))
