"""The formulas without torch against those with it."""

import numpy as np
import pytest
import torch

from naics_job.geometry import light, lorentz

CURVATURES = pytest.mark.parametrize("curvature", [0.3, 1.0, 2.5])
LENGTHS = [0.0, 1e-20, 1e-3, 1.0, 7.9, 8.1, 30.0, 1e4]


def tangents() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    direction = torch.nn.functional.normalize(torch.randn(8, 5, generator=generator), dim=1)
    return direction * torch.tensor(LENGTHS)[:, None]


@CURVATURES
def test_exponential_map(curvature: float) -> None:
    points = light.exp_map_origin(tangents().numpy(), curvature)
    assert points.dtype == np.float32
    expected = lorentz.exp_map_origin(tangents(), curvature).numpy()
    np.testing.assert_allclose(points, expected, rtol=1e-6, atol=1e-30)


@CURVATURES
def test_pairwise_distance(curvature: float) -> None:
    points = lorentz.exp_map_origin(tangents(), curvature)
    found = light.pairwise_distance(points.numpy(), points[2:].numpy(), curvature)
    assert found.dtype == np.float32
    expected = lorentz.pairwise_distance(points, points[2:], curvature).numpy()
    apart = expected > 1e-2  # nearer than that both carry the rounding of a cancelled product
    np.testing.assert_allclose(found[apart], expected[apart], rtol=1e-5)
    assert found[~apart].max() < 1e-1
