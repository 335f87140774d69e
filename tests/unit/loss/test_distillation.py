"""The adapted encoder ranks codes as the frozen one does."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, softmax

from naics_job.loss.distillation import TEMPERATURE, DistillationLoss

ALL = torch.ones(4, dtype=torch.bool)


def example() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.rand(2, 4, 9, dtype=torch.float64, generator=generator) * 0.6
    shown = torch.rand(4, 9, generator=generator) < 0.6
    shown[:, 0] = True
    shown[3, 1:] = False  # one code only
    return student, teacher, shown


def test_agrees_with_torch_on_the_shown_codes() -> None:
    student, teacher, shown = example()
    expected = 0.0
    for row in range(4):
        ours = log_softmax(student[row, shown[row]] / TEMPERATURE, dim=0)
        theirs = softmax(teacher[row, shown[row]] / TEMPERATURE, dim=0)
        expected += kl_div(ours, theirs, reduction="sum").item() / 4
    assert expected > 0.1
    assert DistillationLoss()(student, teacher, shown, ALL).item() == pytest.approx(expected)


def test_equal_rankings_cost_nothing_and_a_shift_is_none() -> None:
    _, teacher, shown = example()
    student = (teacher + 0.3).requires_grad_()
    found = DistillationLoss()(student, teacher, shown, ALL)
    found.backward()
    assert found.item() == pytest.approx(0, abs=1e-12)
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-12


def test_hidden_codes_do_not_matter_and_get_no_gradient() -> None:
    student, teacher, shown = example()
    other = torch.where(shown, student, torch.full_like(student, 50.0)).requires_grad_()
    found = DistillationLoss()(other, torch.where(shown, teacher, -7.0), shown, ALL)
    assert found.item() == pytest.approx(DistillationLoss()(student, teacher, shown, ALL).item())
    found.backward()
    assert other.grad is not None
    assert bool(torch.isfinite(other.grad).all())
    assert not other.grad[~shown].any()
    assert other.grad[shown].any()


def test_descent_makes_the_student_rank_as_the_teacher() -> None:
    student, teacher, shown = example()
    leaf = student.clone().requires_grad_()
    optimizer = torch.optim.Adam([leaf], lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        DistillationLoss()(leaf, teacher, shown, ALL).backward()
        optimizer.step()
    for row in range(3):
        own = shown[row]
        assert leaf[row, own].argsort().tolist() == teacher[row, own].argsort().tolist()


def test_no_texts() -> None:
    none = torch.zeros(0, 9, requires_grad=True)
    found = DistillationLoss()(none, none.detach(), torch.zeros(0, 9, dtype=torch.bool), ALL[:0])
    found.backward()
    assert found.item() == 0


def test_gradcheck() -> None:
    student, teacher, shown = example()
    loss = DistillationLoss()
    leaf = student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher, shown, ALL), (leaf,))


def test_what_is_not_taught_does_not_count() -> None:
    student, teacher, shown = example()
    taught = torch.tensor([True, False, True, True])
    leaf = student.clone().requires_grad_()
    found = DistillationLoss()(leaf, teacher, shown, taught)
    expected = DistillationLoss()(student[taught], teacher[taught], shown[taught], ALL[:3])
    assert found.item() == pytest.approx(expected.item())
    found.backward()
    assert leaf.grad is not None
    assert not leaf.grad[1].any()
    assert leaf.grad[0].any()
    assert DistillationLoss()(leaf, teacher, shown, ~ALL).item() == 0
