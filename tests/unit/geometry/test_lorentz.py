"""The Lorentz model against geoopt, closed forms and finite gradients."""

import math
import warnings

import pytest
import torch
from torch import Tensor

from naics_job.geometry import lorentz
from naics_job.geometry.light import EXACT_RADIUS, MAX_RADIUS
from naics_job.geometry.lorentz import (
    centroid,
    exact_radius,
    exp_map_origin,
    geodesic_distance,
    log_map_origin,
    lorentz_gap,
    lorentz_inner,
    max_radius,
    on_manifold_error,
    origin_like,
    pairwise_distance,
    project,
    radius,
    to_poincare,
)

with warnings.catch_warnings():  # geoopt still scripts some helpers when it is imported
    warnings.simplefilter("ignore", DeprecationWarning)
    import geoopt

CURVATURES = pytest.mark.parametrize("curvature", [0.5, 1.0, 2.0])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def tangents(count: int = 64, dim: int = 8, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, dim, dtype=torch.float64, generator=generator).to(dtype)


def tolerance(dtype: torch.dtype) -> dict[str, float]:
    return {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-7}


def reference(curvature: float) -> geoopt.Lorentz:
    # geoopt's k is the squared radius of the hyperboloid, our 1 / c
    return geoopt.Lorentz(k=torch.tensor(1 / curvature, dtype=torch.float64))


@CURVATURES
def test_exponential_map_agrees_with_geoopt(curvature: float) -> None:
    tangent = tangents()
    padded = torch.cat([torch.zeros(64, 1, dtype=torch.float64), tangent], dim=1)
    expected = reference(curvature).expmap0(padded)
    torch.testing.assert_close(exp_map_origin(tangent, curvature), expected, rtol=1e-9, atol=1e-9)


@CURVATURES
def test_logarithmic_map_agrees_with_geoopt(curvature: float) -> None:
    point = exp_map_origin(tangents(), curvature)
    expected = reference(curvature).logmap0(point)[:, 1:]
    torch.testing.assert_close(log_map_origin(point, curvature), expected, rtol=1e-7, atol=1e-7)


@CURVATURES
def test_distance_agrees_with_geoopt(curvature: float) -> None:
    point = exp_map_origin(tangents(), curvature)
    manifold = reference(curvature)
    expected = manifold.dist(point[:32], point[32:])
    found = geodesic_distance(point[:32], point[32:], curvature)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(
        radius(point, curvature), manifold.dist0(point), rtol=1e-7, atol=1e-7
    )


@CURVATURES
def test_inner_product_agrees_with_geoopt(curvature: float) -> None:
    point = exp_map_origin(tangents(), curvature)
    expected = reference(curvature).inner(None, point[:32], point[32:])
    found = lorentz_inner(point[:32], point[32:])
    torch.testing.assert_close(found, expected.squeeze(), rtol=1e-9, atol=1e-9)
    squares = lorentz_inner(point, point)
    torch.testing.assert_close(squares, torch.full_like(squares, -1 / curvature))


@CURVATURES
def test_poincare_image_has_the_distances_of_geoopt_ball(curvature: float) -> None:
    point = exp_map_origin(tangents(), curvature)
    image = to_poincare(point, curvature)
    assert image.norm(dim=1).max() < 1
    ball = geoopt.PoincareBall(c=1.0)
    expected = ball.dist(image[:32], image[32:]) / math.sqrt(curvature)
    found = geodesic_distance(point[:32], point[32:], curvature)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@CURVATURES
def test_centroid_of_two_points_is_their_midpoint_on_the_geodesic(curvature: float) -> None:
    manifold = reference(curvature)
    x, y = exp_map_origin(tangents(2), curvature)
    expected = manifold.expmap(x, manifold.logmap(x, y) / 2)
    found = centroid(torch.stack([x, y]), torch.ones(2, dtype=torch.float64), curvature)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)


@CURVATURES
def test_centroid_minimises_the_weighted_squared_lorentz_distance(curvature: float) -> None:
    point = exp_map_origin(tangents(10), curvature)
    weights = torch.rand(10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    best = centroid(point, weights, curvature)
    nudged = project(best + 1e-3 * torch.nn.functional.pad(tangents(50), (1, 0)), curvature)
    costs = weights @ lorentz_gap(point, torch.cat([best[None], nudged]), curvature)
    assert bool((costs[0] < costs[1:]).all())


@CURVATURES
@DTYPES
def test_distance_to_origin_is_tangent_norm(curvature: float, dtype: torch.dtype) -> None:
    tangent = tangents(dtype=dtype)
    point = exp_map_origin(tangent, curvature)
    distance = geodesic_distance(point, origin_like(point, curvature), curvature)
    assert point.dtype == distance.dtype == dtype
    assert radius(point, curvature).dtype == dtype
    torch.testing.assert_close(distance, tangent.norm(dim=-1), **tolerance(dtype))
    torch.testing.assert_close(radius(point, curvature), tangent.norm(dim=-1), **tolerance(dtype))


@CURVATURES
@DTYPES
def test_logarithm_inverts_exponential_map(curvature: float, dtype: torch.dtype) -> None:
    unit = torch.nn.functional.normalize(tangents(dtype=dtype), dim=1)
    for length in (0.0, 1e-6, 1.0, 0.99 * EXACT_RADIUS / math.sqrt(curvature)):
        back = log_map_origin(exp_map_origin(unit * length, curvature), curvature)
        assert back.dtype == dtype
        torch.testing.assert_close(back, unit * length, rtol=1e-5, atol=1e-12)


@CURVATURES
@DTYPES
def test_distance_along_a_ray_is_the_difference(curvature: float, dtype: torch.dtype) -> None:
    unit = torch.nn.functional.normalize(tangents(1, dtype=dtype), dim=1)
    near, far = exp_map_origin(unit, curvature), exp_map_origin(unit * 4.5, curvature)
    found = geodesic_distance(near, far, curvature)
    assert found.item() == pytest.approx(3.5, rel=1e-5)


@CURVATURES
@DTYPES
def test_right_angle_follows_the_hyperbolic_pythagoras(
    curvature: float, dtype: torch.dtype
) -> None:
    legs = exp_map_origin(torch.tensor([[1.5, 0.0], [0.0, 2.5]], dtype=dtype), curvature)
    root = math.sqrt(curvature)
    expected = math.acosh(math.cosh(root * 1.5) * math.cosh(root * 2.5)) / root
    found = pairwise_distance(legs, legs, curvature)[0, 1]
    assert found.item() == pytest.approx(expected, rel=1e-6)


@CURVATURES
@DTYPES
def test_pairwise_equals_geodesic_distance(curvature: float, dtype: torch.dtype) -> None:
    x, y = exp_map_origin(tangents(dtype=dtype), curvature).split([40, 24])
    found = pairwise_distance(x, y, curvature)
    expected = geodesic_distance(x[:, None], y, curvature)
    assert found.shape == (40, 24)
    assert found.dtype == expected.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


@CURVATURES
def test_tiny_distances_are_resolved_in_float32(curvature: float) -> None:
    tangent = torch.zeros(2, 4)
    tangent[1, 0] = 1e-5
    for start in (0.0, 0.5):
        pair = exp_map_origin(tangent + torch.tensor([0.0, start, 0.0, 0.0]), curvature)
        stretch = math.sinh(math.sqrt(curvature) * start) / (math.sqrt(curvature) * start or 1)
        expected = 1e-5 * (stretch or 1.0)
        single = geodesic_distance(pair[0], pair[1], curvature)
        assert single.dtype == torch.float32
        assert single.item() == pytest.approx(expected, rel=1e-2)
        assert pairwise_distance(pair, pair, curvature)[0, 1].item() == pytest.approx(
            expected, rel=1e-2
        )


@CURVATURES
@DTYPES
def test_far_points_neither_overflow_nor_lose_their_radius(
    curvature: float, dtype: torch.dtype
) -> None:
    unit = torch.nn.functional.normalize(tangents(4, dtype=dtype), dim=1)
    lengths = torch.tensor([[20.0], [200.0], [1e4], [1e30]], dtype=dtype)
    tangent = (unit * lengths).requires_grad_()
    point = exp_map_origin(tangent, curvature)
    reached = radius(point, curvature)
    assert bool(torch.isfinite(point).all())
    assert bool((reached[1:] > reached[:-1] - 1e-5).all())
    assert reached.max() <= max_radius(curvature) * (1 + 1e-6)
    assert reached[3].item() == pytest.approx(MAX_RADIUS / math.sqrt(curvature), rel=1e-5)
    reached[:2].sum().backward()
    assert tangent.grad is not None
    slopes = (tangent.grad * unit).sum(1)[:2]
    beyond = (math.sqrt(curvature) * lengths[:2, 0] - EXACT_RADIUS) / (MAX_RADIUS - EXACT_RADIUS)
    torch.testing.assert_close(slopes, (1 + beyond) ** -2, rtol=2e-2, atol=0)
    back = geodesic_distance(point[0], -point[0], curvature)  # -space: the mirrored point
    assert math.isfinite(back.item())


@CURVATURES
def test_radius_limit_joins_smoothly(curvature: float) -> None:
    joint = float(exact_radius(curvature))
    length = torch.tensor([joint - 1e-6, joint + 1e-6], dtype=torch.float64, requires_grad=True)
    direction = torch.tensor([0.6, 0.8], dtype=torch.float64)
    radius(exp_map_origin(length[:, None] * direction, curvature), curvature).sum().backward()
    assert length.grad is not None
    torch.testing.assert_close(length.grad, torch.ones(2, dtype=torch.float64), rtol=1e-5, atol=0)


@CURVATURES
@DTYPES
def test_gradients_are_finite_at_coincident_points(curvature: float, dtype: torch.dtype) -> None:
    for tangent in (tangents(5, dtype=dtype), torch.zeros(5, 8, dtype=dtype)):
        leaf = tangent.clone().requires_grad_()
        point = exp_map_origin(leaf, curvature)
        total = (
            geodesic_distance(point, point.detach(), curvature).sum()
            + geodesic_distance(point, point, curvature).sum()
            + pairwise_distance(point, point, curvature).diagonal().sum()
            + radius(point, curvature).sum()
            + log_map_origin(point, curvature).sum()
        )
        total.backward()
        assert leaf.grad is not None
        assert leaf.grad.dtype == dtype
        assert bool(torch.isfinite(leaf.grad).all())


@CURVATURES
def test_distances_pass_gradcheck(curvature: float) -> None:
    tangent = tangents(4, 3).requires_grad_()
    scalar = torch.tensor(curvature, dtype=torch.float64, requires_grad=True)

    def distances(leaf: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        point = exp_map_origin(leaf, c)
        single = geodesic_distance(point[:2], point[2:], c)
        return single, pairwise_distance(point[:2], point[2:], c), radius(point, c)

    assert torch.autograd.gradcheck(distances, (tangent, scalar))


@CURVATURES
@DTYPES
def test_manifold_error_sees_a_point_beside_the_hyperboloid(
    curvature: float, dtype: torch.dtype
) -> None:
    point = exp_map_origin(tangents(dtype=dtype), curvature)
    error = on_manifold_error(point, curvature)
    assert error.dtype == dtype
    assert error.max() < (1e-6 if dtype == torch.float32 else 1e-14)
    moved = point.clone()
    moved[0, 0] *= 1.01
    assert on_manifold_error(moved, curvature)[0].item() == pytest.approx(0.01, rel=1e-3)
    torch.testing.assert_close(project(moved, curvature), point)


@pytest.mark.parametrize("has_float64", [True, False])
def test_half_precision_input_and_autocast_give_float32(
    has_float64: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_float64:  # as on mps
        monkeypatch.setattr(lorentz, "widen", lambda x: x.to(torch.float32))
    tangent = tangents(6, dtype=torch.float32)
    expected = exp_map_origin(tangent, 1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        point = exp_map_origin(tangent, 1.0)
        distance = pairwise_distance(point, point, 1.0)
        middle = centroid(point, torch.ones(6), 1.0)
    assert exp_map_origin(tangent.half(), 1.0).dtype == torch.float32
    assert distance.dtype == middle.dtype == torch.float32
    torch.testing.assert_close(point, expected, rtol=0, atol=0)
    torch.testing.assert_close(distance, pairwise_distance(point, point, 1.0), rtol=0, atol=0)
    torch.testing.assert_close(middle, centroid(point, torch.ones(6), 1.0), rtol=0, atol=0)


@CURVATURES
def test_centroid_weights(curvature: float) -> None:
    point = exp_map_origin(tangents(3), curvature)
    weights = torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    found = centroid(point, weights, curvature)
    torch.testing.assert_close(found[0], point[1])
    torch.testing.assert_close(found[1], origin_like(point[1], curvature))
