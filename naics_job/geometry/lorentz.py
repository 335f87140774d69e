"""The Lorentz model of hyperbolic space: the only formulas of it in this package.

`geometry.light` repeats two of them without torch.

A point is `[..., dim + 1]`, time component first, on -x_0^2 + |x_1:|^2 = -1/c with c > 0; the
sectional curvature is -c. geoopt calls the squared radius 1/c `k`.

The space components are the truth: wherever a formula needs the time it is computed anew from
them, in float64. A time stored in float32 at radius 10 is off by 5e-4, which would put the point
that far from the hyperboloid and swamp every small distance. So gradients reach a point through its
space components only, which for a point made by `exp_map_origin` is the whole derivative.

Results have the type of the input, float32 at least. On a device without float64 (mps) the work is
done in float32.
"""

import torch
from torch import Tensor

from naics_job.geometry.light import EXACT_RADIUS, MAX_RADIUS, TINY

Curvature = float | Tensor


def widen(x: Tensor) -> Tensor:
    """`x` in the working type: float64 where the device has it."""
    return x.to(torch.float32 if x.device.type == "mps" else torch.float64)


def _narrow(result: Tensor, like: Tensor) -> Tensor:
    return result.to(torch.promote_types(like.dtype, torch.float32))


def _root(curvature: Curvature, like: Tensor) -> Tensor:
    """Square root of c as a scalar tensor beside the working tensor `like`; keeps gradients."""
    return torch.as_tensor(curvature, dtype=like.dtype, device=like.device).sqrt()


def _with_time(space: Tensor, root_c: Tensor) -> Tensor:
    time = (space.square().sum(-1, keepdim=True) + root_c.pow(-2)).sqrt()
    return torch.cat([time, space], dim=-1)


def _limited(length: Tensor) -> Tensor:
    """`length` up to EXACT_RADIUS, then K + (M - K) u / (1 + u) with u = (length - K) / (M - K).

    The joint has slope 1 on both sides; the slope (1 + u)^-2 never vanishes.
    """
    room = MAX_RADIUS - EXACT_RADIUS
    beyond = (length - EXACT_RADIUS).clamp_min(0) / room
    return length.clamp_max(EXACT_RADIUS) + room * beyond / (1 + beyond)


def _length(vector: Tensor) -> Tensor:
    """Euclidean length `[..., 1]`, never 0, gradient 0 at the zero vector."""
    return vector.square().sum(-1, keepdim=True).clamp_min(TINY).sqrt()


def _distance(q: Tensor, root_c: Tensor) -> Tensor:
    """Geodesic distance from q = <x - y, x - y>_L."""
    return 2 * torch.asinh(root_c * q.clamp_min(TINY).sqrt() / 2) / root_c


def exact_radius(curvature: Curvature) -> Curvature:
    """Distance from the origin up to which `exp_map_origin` is exact."""
    return EXACT_RADIUS / curvature**0.5


def max_radius(curvature: Curvature) -> Curvature:
    """Distance from the origin that no result of `exp_map_origin` exceeds."""
    return MAX_RADIUS / curvature**0.5


def origin_like(x: Tensor, curvature: Curvature) -> Tensor:
    """The origin (1 / sqrt(c), 0, ..., 0) in the shape of `x` `[..., dim + 1]`."""
    wide = widen(x.detach())
    return _narrow(_with_time(torch.zeros_like(wide[..., 1:]), _root(curvature, wide)), x)


def project(x: Tensor, curvature: Curvature) -> Tensor:
    """`x` `[..., dim + 1]` with its time computed from its space components."""
    wide = widen(x)
    return _narrow(_with_time(wide[..., 1:], _root(curvature, wide)), x)


def exp_map_origin(tangent: Tensor, curvature: Curvature) -> Tensor:
    """Point `[..., dim + 1]` at distance |tangent| from the origin in the direction of `tangent`.

    Differs from the textbook: sqrt(c) |tangent| above EXACT_RADIUS is drawn in smoothly below
    MAX_RADIUS, so that no finite input overflows and every gradient keeps its direction.

    Args:
        tangent: space components of a tangent vector at the origin, `[..., dim]`; its time
            component is 0 and not stored.
        curvature: c > 0.
    """
    wide = widen(tangent)
    root_c = _root(curvature, wide)
    length = _length(wide)  # [..., 1]
    space = wide / length * torch.sinh(_limited(root_c * length)) / root_c
    return _narrow(_with_time(space, root_c), tangent)


def log_map_origin(x: Tensor, curvature: Curvature) -> Tensor:
    """Tangent vector `[..., dim]` at the origin that points to `x` `[..., dim + 1]`.

    Inverse of `exp_map_origin` up to a radius of `exact_radius`.
    """
    wide = widen(x)
    root_c = _root(curvature, wide)
    space = wide[..., 1:]
    length = _length(space)
    return _narrow(space / length * torch.asinh(root_c * length) / root_c, x)


def lorentz_inner(x: Tensor, y: Tensor) -> Tensor:
    """Lorentz inner product -x_0 y_0 + x_1: . y_1: `[...]` of the components as they are."""
    product = widen(x) * widen(y)
    return _narrow(product[..., 1:].sum(-1) - product[..., 0], x)


def geodesic_distance(x: Tensor, y: Tensor, curvature: Curvature) -> Tensor:
    """Geodesic distance `[...]` between `x` and `y` `[..., dim + 1]`.

    With q = <x - y, x - y>_L this is 2 asinh(sqrt(c q) / 2) / sqrt(c), equal to the textbook
    arcosh(-c <x, y>_L) / sqrt(c), which rounds to 0 below a distance of 3e-4 in float32. The
    difference of the times is (x - y) . (x + y) / (x_0 + y_0) over the space components, which does
    not cancel. The gradient at coincident points is 0.

    Args:
        x: points on -x_0^2 + |x_1:|^2 = -1/c.
        y: points on the same hyperboloid, broadcast against `x`.
        curvature: c > 0; the sectional curvature is -c.
    """
    wide_x, wide_y = widen(x), widen(y)
    root_c = _root(curvature, wide_x)
    point_x = _with_time(wide_x[..., 1:], root_c)
    point_y = _with_time(wide_y[..., 1:], root_c)
    diff = point_x[..., 1:] - point_y[..., 1:]
    both = point_x + point_y
    time = (diff * both[..., 1:]).sum(-1) / both[..., 0]
    return _narrow(_distance(diff.square().sum(-1) - time.square(), root_c), x)


def pairwise_distance(x: Tensor, y: Tensor, curvature: Curvature) -> Tensor:
    """Geodesic distances `[n, m]` between `x` `[n, dim + 1]` and `y` `[m, dim + 1]`.

    The values of `geodesic_distance` from one float64 matrix product: q = -2/c - 2 <x, y>_L.
    Cancellation leaves an error of about 1e-8 x_0 near distance 0.
    """
    with torch.autocast(device_type=x.device.type, enabled=False):
        q = lorentz_gap(x, y, curvature)
        return _narrow(_distance(q, _root(curvature, q)), x)


def lorentz_gap(x: Tensor, y: Tensor, curvature: Curvature) -> Tensor:
    """Squared Lorentz distances <x - y, x - y>_L `[n, m]`; shapes as in `pairwise_distance`.

    Grows with the geodesic distance and is what a Lorentz centroid minimises (Law et al. 2019).
    Float64; rounding may leave values just below 0.
    """
    wide_x, wide_y = widen(x), widen(y)
    root_c = _root(curvature, wide_x)
    point_x = _with_time(wide_x[..., 1:], root_c)
    point_y = _with_time(wide_y[..., 1:], root_c)
    mirrored = torch.cat([-point_y[:, :1], point_y[:, 1:]], dim=1)
    return -2 * root_c.pow(-2) - 2 * (point_x @ mirrored.T)  # [n, m]


def radius(x: Tensor, curvature: Curvature) -> Tensor:
    """Distance `[...]` of `x` `[..., dim + 1]` from the origin; gradient 0 at the origin."""
    wide = widen(x)
    root_c = _root(curvature, wide)
    length = _length(wide[..., 1:]).squeeze(-1)
    return _narrow(torch.asinh(root_c * length) / root_c, x)


def centroid_of_sum(total: Tensor, curvature: Curvature) -> Tensor:
    """Lorentz centroids total / sqrt(-c <total, total>_L) from weighted sums of points.

    Both are `[..., dim + 1]`. A sum of nothing (all zeros) gives the origin.
    """
    wide = widen(total)
    root_c = _root(curvature, wide)
    squares = wide.square()
    length = (squares[..., :1] - squares[..., 1:].sum(-1, keepdim=True)).clamp_min(TINY).sqrt()
    return _narrow(_with_time(wide[..., 1:] / (root_c * length), root_c), total)


def centroid(points: Tensor, weights: Tensor, curvature: Curvature) -> Tensor:
    """Lorentz centroids `[..., dim + 1]`: the minimisers of the weighted squared Lorentz distance.

    Law et al. 2019, "Lorentzian Distance Learning for Hyperbolic Representations", Theorem 3.3.

    Args:
        points: `[n, dim + 1]`.
        weights: `[..., n]`, not negative; a row without weight gives the origin.
        curvature: c > 0.
    """
    wide = project(widen(points), curvature)
    with torch.autocast(device_type=points.device.type, enabled=False):
        total = weights.to(wide.dtype) @ wide  # [..., dim + 1]
    return _narrow(centroid_of_sum(total, curvature), points)


def on_manifold_error(x: Tensor, curvature: Curvature) -> Tensor:
    """Relative error `[...]` of the stored time component; some 1e-7 for a sound float32 point."""
    wide = widen(x)
    time = project(wide, curvature)[..., 0]
    return _narrow((wide[..., 0] - time).abs() / time, x)


def to_poincare(x: Tensor, curvature: Curvature) -> Tensor:
    """Stereographic image `[..., dim]` of `x` `[..., dim + 1]` in the open unit ball."""
    wide = widen(x)
    root_c = _root(curvature, wide)
    point = _with_time(wide[..., 1:], root_c)
    return _narrow(root_c * point[..., 1:] / (1 + root_c * point[..., :1]), x)
