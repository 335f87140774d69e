"""LambdaRank: values, direction, bounds."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score
from torch import Tensor

from naics_job.config.load import load_config
from naics_job.loss.rank_order import LambdaRankLoss


def lambda_rank(temperature: float = 1.0) -> LambdaRankLoss:
    config = replace(load_config().config.loss, temperature=9.0, rank_temperature=temperature)
    return LambdaRankLoss(config)


def everything(distance: Tensor) -> Tensor:
    return torch.ones_like(distance, dtype=torch.bool)


def slow_reference(distance: list[float], tree: list[int], temperature: float) -> float:
    """All pairs of one list, in plain Python, weighted by their changes of NDCG scaled to sum 1."""
    codes = [i for i, t in enumerate(tree) if t > 0]
    ranked = sorted(codes, key=lambda i: distance[i])
    gain = {i: 1 / (1 + tree[i]) for i in codes}
    fall = {i: 1 / math.log2(n + 2) if n < 10 else 0.0 for n, i in enumerate(ranked)}
    ideal = sum(
        g / math.log2(n + 2) for n, g in enumerate(sorted(gain.values(), reverse=True)[:10])
    )
    total, weights = 0.0, 0.0
    for near in codes:
        for far in codes:
            if tree[near] < tree[far]:
                change = abs((gain[near] - gain[far]) * (fall[near] - fall[far])) / ideal
                gap = (distance[near] - distance[far]) / temperature
                total += change * math.log1p(math.exp(gap))
                weights += change
    return total / weights


@pytest.mark.parametrize("num_codes", [3, 8, 40])
def test_agrees_with_a_slow_reference(num_codes: int) -> None:
    rng = np.random.default_rng(num_codes)
    distance = rng.uniform(0, 5, (6, num_codes))
    tree = rng.integers(0, 11, (6, num_codes))
    tree[:, :2] = (1, 10)  # at least one pair with an order
    lists = zip(distance.tolist(), tree.tolist(), strict=True)
    expected = np.mean([slow_reference(d, t, 0.7) for d, t in lists])
    rows = torch.from_numpy(distance)
    found = lambda_rank(0.7)(rows, torch.from_numpy(tree), everything(rows))
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(expected)


def two_items(gap: float) -> Tensor:
    """Gradient on the distances of a near relative and of one `gap` further away."""
    distance = torch.tensor([[5.0, 5.0 + gap]], requires_grad=True)
    lambda_rank()(distance, torch.tensor([[1.0, 10.0]]), everything(distance)).backward()
    assert distance.grad is not None
    return distance.grad[0]


def test_the_near_relative_is_pulled_and_harder_when_misplaced() -> None:
    right, tied, wrong = two_items(3.0), two_items(0.0), two_items(-3.0)
    for gradient in (right, tied, wrong):
        assert gradient[0] > 0  # descent lowers its distance
        assert gradient[1] < 0
    assert right[0] < tied[0] < wrong[0]


def test_descent_raises_ndcg_from_every_start() -> None:
    generator = torch.Generator().manual_seed(0)
    tree = torch.randint(1, 11, (60, 25), generator=generator)
    distance = (5 * torch.rand(60, 25, generator=generator)).requires_grad_()
    relevance = (1 / (1 + tree)).numpy()

    def ndcg() -> np.ndarray:
        scores = -distance.detach().numpy()
        return np.array(
            [ndcg_score(r[None], s[None], k=10) for r, s in zip(relevance, scores, strict=True)]
        )

    before, loss = ndcg(), lambda_rank()
    previous = before
    for steps in (5, 50, 300):
        for _ in range(steps):
            distance.grad = None
            loss(distance, tree, everything(distance)).backward()
            assert distance.grad is not None
            with torch.no_grad():
                distance -= 120.0 * distance.grad
        assert ndcg().mean() > previous.mean()
        previous = ndcg()
    assert bool((previous > before).all())
    assert previous.min() > 0.97


def test_gradient_is_bounded_and_the_loss_is_not_below_zero() -> None:
    generator = torch.Generator().manual_seed(1)
    tree = torch.randint(0, 11, (20, 50), generator=generator)
    for spread in (1e-6, 1.0, 1e3):
        distance = (spread * torch.rand(20, 50, generator=generator)).requires_grad_()
        loss = lambda_rank(0.2)(distance, tree, everything(distance))
        loss.backward()
        assert distance.grad is not None
        assert loss.item() >= 0
        # each pair of a list moves two distances, and the weights of a list have the sum 1
        assert (distance.grad.abs().sum(1) * 20 - 2 / 0.2).max() <= 1e-3


def test_a_longer_list_of_the_same_kind_costs_the_same() -> None:
    """All nearest codes are far relatives in both: every pair has the wrong order by 1."""
    costs = []
    for copies in (10, 40):
        distance = torch.cat([torch.zeros(1, copies), torch.ones(1, copies)], dim=1)
        tree = torch.cat([torch.full((1, copies), 9), torch.full((1, copies), 2)], dim=1)
        costs.append(lambda_rank(0.5)(distance, tree, everything(distance)).item())
    expected = math.log1p(math.exp(1 / 0.5))
    assert costs == pytest.approx([expected, expected])


def test_masked_codes_and_the_anchor_itself_are_not_ranked() -> None:
    distance = torch.tensor([[0.1, 1.0, 2.0, 0.5, 3.0]], requires_grad=True)
    tree = torch.tensor([[0, 4, 1, 2, 10]])
    keep = torch.tensor([[True, True, True, False, True]])
    found = lambda_rank()(distance, tree, keep)
    found.backward()
    assert distance.grad is not None
    assert distance.grad[0, 0] == 0
    assert distance.grad[0, 3] == 0
    assert distance.grad[0, 2] > 0
    kept = [1, 2, 4]
    alone = lambda_rank()(distance[:, kept], tree[:, kept], keep[:, kept])
    assert found.item() == pytest.approx(alone.item())


def test_a_list_without_order_costs_nothing() -> None:
    distance = torch.rand(2, 4, requires_grad=True)
    tree = torch.full((2, 4), 3)
    found = lambda_rank()(distance, tree, everything(distance))
    found.backward()
    assert found.item() == 0
    nothing = lambda_rank()(distance, tree, torch.zeros(2, 4, dtype=torch.bool))
    nothing.backward()
    assert nothing.item() == 0
    assert distance.grad is not None
    assert bool(torch.isfinite(distance.grad).all())


def test_gradcheck() -> None:
    generator = torch.Generator().manual_seed(2)
    distance = torch.rand(3, 14, dtype=torch.float64, generator=generator).requires_grad_()
    tree = torch.randint(0, 11, (3, 14), generator=generator)
    loss = lambda_rank(0.5)
    assert torch.autograd.gradcheck(lambda d: loss(d, tree, everything(d)), (distance,))
