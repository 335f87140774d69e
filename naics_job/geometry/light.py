"""The formulas of `geometry.lorentz` that answer a query, in numpy.

Importing torch takes longer than answering. A test holds them to `geometry.lorentz`, which explains
them; a point is `[..., dim + 1]`, time component first.
"""

import math

import numpy as np

# Radii sqrt(c) r up to EXACT_RADIUS are kept, longer ones approach MAX_RADIUS. At 12 a float32
# point is uncertain by a distance of about 0.01 and its time is 8e4.
EXACT_RADIUS = 8.0
MAX_RADIUS = 12.0
TINY = 1e-30  # under a square root, keeps its gradient finite at 0


def exp_map_origin(tangent: np.ndarray, curvature: float) -> np.ndarray:
    """Points `[n, dim + 1]` float32 of tangent vectors `[n, dim]` at the origin."""
    wide, root_c = tangent.astype(np.float64), math.sqrt(curvature)
    length = np.sqrt(np.maximum(np.square(wide).sum(-1, keepdims=True), TINY))
    room = MAX_RADIUS - EXACT_RADIUS
    beyond = np.maximum(root_c * length - EXACT_RADIUS, 0) / room
    limited = np.minimum(root_c * length, EXACT_RADIUS) + room * beyond / (1 + beyond)
    return _with_time(wide / length * np.sinh(limited) / root_c, curvature).astype(np.float32)


def pairwise_distance(x: np.ndarray, y: np.ndarray, curvature: float) -> np.ndarray:
    """Geodesic distances `[n, m]` float32 between points `x` `[n, dim + 1]` and `y`."""
    point_x = _with_time(x[:, 1:].astype(np.float64), curvature)
    point_y = _with_time(y[:, 1:].astype(np.float64), curvature)
    point_y[:, 0] *= -1
    q = np.maximum(-2 / curvature - 2 * (point_x @ point_y.T), TINY)
    root_c = math.sqrt(curvature)
    distance: np.ndarray = 2 * np.arcsinh(root_c * np.sqrt(q) / 2) / root_c
    return distance.astype(np.float32)


def _with_time(space: np.ndarray, curvature: float) -> np.ndarray:
    time = np.sqrt(np.square(space).sum(-1, keepdims=True) + 1 / curvature)
    return np.concatenate([time, space], axis=-1)
