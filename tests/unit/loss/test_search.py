"""The search term: closed form, what it moves, and a step without queries."""

import math
from dataclasses import replace

import pytest
import torch

from naics_job.config.load import load_config
from naics_job.loss.search import SearchLoss


def search_loss(temperature: float = 0.5) -> SearchLoss:
    return SearchLoss(replace(load_config().config.loss, search_temperature=temperature))


def test_closed_form() -> None:
    distance = torch.tensor([[1.0, 2.0, 4.0], [3.0, 3.0, 3.0]], dtype=torch.float64)
    loss = search_loss()(distance, torch.tensor([1, 0]))
    first = 4.0 + math.log(math.exp(-2.0) + math.exp(-4.0) + math.exp(-8.0))
    assert loss.item() == pytest.approx((first + math.log(3.0)) / 2, rel=1e-12)


def test_descent_pulls_the_right_code_and_pushes_the_others() -> None:
    distance = torch.tensor([[1.0, 2.0, 4.0]], requires_grad=True)
    search_loss()(distance, torch.tensor([1])).backward()
    assert distance.grad is not None
    right, near, far = distance.grad[0, 1], distance.grad[0, 0], distance.grad[0, 2]
    assert right > 0 > far > near  # descent moves against the gradient; the near one moves most
    assert distance.grad.sum().abs() < 1e-6


def test_a_step_without_queries_counts_nothing() -> None:
    distance = torch.zeros(0, 5, requires_grad=True)
    loss = search_loss()(distance, torch.zeros(0, dtype=torch.int64))
    assert loss.item() == 0
    loss.backward()
