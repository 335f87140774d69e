"""Texts against codes: against a slow reference, masks, gradients."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from naics_job.config.load import load_config
from naics_job.loss.text_contrastive import TextContrastiveLoss

CONFIG = replace(load_config().config.loss, temperature=0.5, code_temperature=9.0)
NONE = -math.inf


def example() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Five texts, seven codes; a third of the codes are no wrong answers, text 3 has none."""
    generator = torch.Generator().manual_seed(0)
    distance = 3 * torch.rand(5, 7, dtype=torch.float64, generator=generator)
    log_weight = torch.randn(5, 7, dtype=torch.float64, generator=generator)
    log_weight[torch.rand(5, 7, generator=generator) < 0.3] = NONE
    log_weight[3] = NONE
    margin = torch.rand(5, 7, dtype=torch.float64, generator=generator)
    return distance, torch.tensor([0, 6, 2, 3, 5]), log_weight, margin


def slow_reference(
    distance: Tensor, truth: Tensor, log_weight: Tensor, margin: Tensor, temperature: float
) -> float:
    losses = []
    for row, right in enumerate(truth.tolist()):
        own = math.exp(-float(distance[row, right]) / temperature)
        total, wrong = own, 0
        for code in range(distance.shape[1]):
            if float(log_weight[row, code]) == NONE:
                continue
            wrong += 1
            if code != right:
                reach = float(margin[row, code] - distance[row, code]) / temperature
                total += math.exp(float(log_weight[row, code])) * math.exp(reach)
        if wrong:
            losses.append(-math.log(own / total))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.02, 0.5, 3.0])
def test_agrees_with_a_slow_reference(temperature: float) -> None:
    inputs = example()
    found = TextContrastiveLoss(replace(CONFIG, temperature=temperature))(*inputs)
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(slow_reference(*inputs, temperature), rel=1e-9)


def test_only_right_and_wrong_answers_get_a_gradient() -> None:
    distance, truth, log_weight, margin = example()
    distance.requires_grad_()
    TextContrastiveLoss(CONFIG)(distance, truth, log_weight, margin).backward()
    grad = distance.grad
    assert grad is not None
    assert bool(torch.isfinite(grad).all())
    for row, right in enumerate(truth.tolist()):
        wrong = (log_weight[row] > NONE) & (torch.arange(7) != right)
        assert bool((grad[row, wrong] < 0).all())  # descent moves it away
        neither = ~wrong & (torch.arange(7) != right)
        assert not grad[row, neither].any()
        assert (grad[row, right] > 0) == (row != 3)  # a text without wrong answers says nothing


def test_a_code_of_more_weight_is_pushed_more() -> None:
    distance = torch.ones(1, 3, requires_grad=True)
    log_weight = torch.tensor([[0.0, 0.0, 1.0]])
    TextContrastiveLoss(CONFIG)(
        distance, torch.tensor([0]), log_weight, torch.zeros(1, 3)
    ).backward()
    assert distance.grad is not None
    assert (distance.grad[0, 2] / distance.grad[0, 1]).item() == pytest.approx(math.e, rel=1e-4)


def test_nothing_to_be_kept_from_costs_nothing() -> None:
    distance, truth, log_weight, margin = example()
    distance.requires_grad_()
    found = TextContrastiveLoss(CONFIG)(distance, truth, torch.full_like(log_weight, NONE), margin)
    found.backward()
    assert found.item() == 0
    assert distance.grad is not None
    assert not distance.grad.any()
    empty = torch.zeros(0, 7, requires_grad=True)
    none = TextContrastiveLoss(CONFIG)(empty, truth[:0], log_weight[:0], margin[:0])
    none.backward()
    assert none.item() == 0


def test_far_texts_do_not_overflow() -> None:
    distance = torch.tensor([[24.0, 0.0, 12.0]], requires_grad=True)
    loss = TextContrastiveLoss(replace(CONFIG, temperature=0.02))
    found = loss(distance, torch.tensor([0]), torch.zeros(1, 3), torch.zeros(1, 3))
    found.backward()
    assert found.item() == pytest.approx(24 / 0.02)
    assert distance.grad is not None
    assert bool(torch.isfinite(distance.grad).all())


def test_gradcheck() -> None:
    distance, truth, log_weight, margin = example()
    loss = TextContrastiveLoss(CONFIG)
    leaf = distance.requires_grad_()
    assert torch.autograd.gradcheck(lambda d: loss(d, truth, log_weight, margin), (leaf,))
