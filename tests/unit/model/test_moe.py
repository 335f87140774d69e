"""Experts: against a slow reference, start at zero, statistics, gradients."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from naics_job.config.model_schema import MoeConfig
from naics_job.model.moe import MixtureOfExperts, expert_statistics
from naics_job.model.noise import StepNoise

RATE = 0.01


def all_of(x: Tensor) -> Tensor:
    """Every row counts."""
    return torch.ones(len(x), dtype=torch.bool)


def build(
    top_k: int = 2, num_experts: int = 4, zero: bool = False, dropout: float = 0.0
) -> MixtureOfExperts:
    torch.manual_seed(0)
    config = MoeConfig(
        num_experts=num_experts, top_k=top_k, hidden_dim=7, dropout=dropout, balance_rate=RATE
    )
    experts = MixtureOfExperts(6, 5, config)
    with torch.no_grad():
        experts.router.linear.weight.normal_()
        if not zero:
            experts.out.normal_()
            experts.out_bias.normal_()
            experts.into_bias.normal_()
    return experts


def slow_reference(experts: MixtureOfExperts, x: Tensor) -> Tensor:
    rows = []
    for row in x:
        gate = experts.router(row[None])[0]  # no bias yet
        top = gate.topk(experts.top_k)
        weight = top.values / top.values.sum() if experts.top_k > 1 else top.values
        total = torch.zeros(5)
        for share, expert in zip(weight, top.indices.tolist(), strict=True):
            hidden = functional.gelu(experts.into[expert] @ row + experts.into_bias[expert])
            total = total + share * (experts.out[expert] @ hidden + experts.out_bias[expert])
        rows.append(total)
    return torch.stack(rows)


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_output_and_gradients_equal_a_slow_reference(top_k: int) -> None:
    experts = build(top_k)
    x = torch.randn(33, 6, requires_grad=True)
    fast, slow = experts(x, all_of(x)).output, slow_reference(experts, x)
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)
    inputs = [x, *experts.parameters()]
    weight = torch.randn_like(fast)
    pairs = zip(
        torch.autograd.grad((fast * weight).sum(), inputs),
        torch.autograd.grad((slow * weight).sum(), inputs),
        strict=True,
    )
    for ours, reference in pairs:
        torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-4)


def test_starts_as_a_residual_of_zero_that_can_learn() -> None:
    experts = build(zero=True)
    x = torch.randn(9, 6)
    result = experts(x, all_of(x))
    assert not result.output.any()
    result.output.sum().backward()
    assert experts.out.grad is not None
    assert experts.out.grad.abs().sum() > 0


def test_single_choice_gives_the_router_a_gradient() -> None:
    experts = build(top_k=1)
    x = torch.randn(9, 6)
    experts(x, all_of(x)).output.square().sum().backward()
    assert experts.router.linear.weight.grad is not None
    assert experts.router.linear.weight.grad.abs().max() > 0


def test_every_parameter_gets_a_gradient_even_when_experts_idle() -> None:
    experts = build(top_k=1, num_experts=8)
    x = torch.randn(2, 6)
    result = experts(x, all_of(x))
    assert (result.load == 0).sum() >= 6
    result.output.sum().backward()
    assert all(parameter.grad is not None for parameter in experts.parameters())


def test_statistics_by_hand() -> None:
    gates = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]], requires_grad=True)
    importance, load = expert_statistics(gates, torch.tensor([[0, 1], [1, 2]]))
    torch.testing.assert_close(importance, torch.tensor([0.4, 0.4, 0.2]))
    torch.testing.assert_close(load, torch.tensor([0.25, 0.5, 0.25]))
    assert importance.requires_grad
    assert not load.requires_grad
    x = torch.randn(50, 6)
    result = build()(x, all_of(x))
    torch.testing.assert_close(result.gates.sum(1), torch.ones(50))
    torch.testing.assert_close(result.load.sum(), torch.tensor(1.0))


def test_gates_are_float32_under_autocast() -> None:
    experts, x = build(), torch.randn(9, 6)
    with torch.autocast("cpu", torch.bfloat16):
        result = experts(x, all_of(x))
    assert result.gates.dtype == torch.float32
    assert result.output.dtype == torch.float32


def test_no_codes() -> None:
    none = torch.zeros(0, 6)
    assert build()(none, all_of(none)).output.shape == (0, 5)


def test_dropout_of_the_hidden_layer_acts_in_training_only() -> None:
    experts = build(dropout=0.5)
    x = torch.randn(9, 6)
    noise, later = (StepNoise.of(0, step).of_rows(torch.arange(9)) for step in range(2))
    assert torch.equal(experts(x, all_of(x), noise).output, experts(x, all_of(x), noise).output)
    assert not torch.equal(experts(x, all_of(x), noise).output, experts(x, all_of(x), later).output)
    assert torch.equal(experts(x, all_of(x), noise).gates, experts(x, all_of(x), later).gates)
    with pytest.raises(AssertionError, match="noise of the step"):
        experts(x, all_of(x))
    experts.eval()
    torch.testing.assert_close(experts(x, all_of(x), noise).output, build()(x, all_of(x)).output)


def test_a_row_loses_the_same_units_in_any_company() -> None:
    experts, x = build(dropout=0.5), torch.randn(33, 6)
    noise = StepNoise.of(0).of_rows(torch.arange(33))
    whole = experts(x, all_of(x), noise).output
    for rows in torch.randperm(33).tensor_split(3):
        part = experts(x[rows], all_of(rows), noise.at(rows)).output
        torch.testing.assert_close(part, whole[rows])
    alike = x[:1].expand(33, 6)
    assert len(experts(alike, all_of(alike), noise).output.unique(dim=0)) > 16  # each row its own


def test_two_experts_lose_different_units_of_one_row() -> None:
    experts = build(dropout=0.5)
    with torch.no_grad():
        for parameter in (experts.into, experts.into_bias, experts.out, experts.out_bias):
            parameter.copy_(parameter[:1].expand_as(parameter))
        experts.router.linear.weight.zero_()  # every expert alike and of the same weight
    single, double = build(top_k=1, dropout=0.5), experts
    single.load_state_dict(experts.state_dict())
    x, noise = torch.randn(9, 6), StepNoise.of(0).of_rows(torch.arange(9))
    apart = (single(x, all_of(x), noise).output / 0.25 - double(x, all_of(x), noise).output).abs()
    assert apart.max() > 1e-3


def test_statistics_are_of_the_counted_rows_alone() -> None:
    experts, x = build(), torch.randn(40, 6)
    counted = torch.arange(40) % 3 == 0
    some, alone = experts(x, counted), experts(x[counted], all_of(x[counted]))
    torch.testing.assert_close(some.importance, alone.importance)
    torch.testing.assert_close(some.load, alone.load)
    whole = experts(x, all_of(x))
    torch.testing.assert_close(some.output, whole.output)
    assert (some.importance - whole.importance).abs().max() > 1e-3
    none = experts(x, torch.zeros(40, dtype=torch.bool))
    assert not none.load.any()
    assert not none.importance.any()


def test_balance_steps_towards_idle_experts_and_leaves_the_gates() -> None:
    experts, x = build(), torch.randn(60, 6)
    before = experts(x, all_of(x))
    experts.balance(torch.tensor([0.6, 0.25, 0.15, 0.0]))
    torch.testing.assert_close(experts.bias, RATE * torch.tensor([-1.0, 0.0, 1.0, 1.0]))
    torch.testing.assert_close(experts(x, all_of(x)).gates, before.gates)
    with torch.no_grad():
        experts.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 2.0]))
    after = experts(x, all_of(x))
    assert after.load[3] == 0.5  # every row chooses it as one of two
    assert not any(name == "bias" for name, _ in experts.named_parameters())


@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_every_expert_is_used_after_some_hundred_steps(top_k: int, seed: int) -> None:
    """Rows that all lie on the side of two experts."""
    experts = build(top_k=top_k)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        weight = experts.router.linear.weight.mul_(0.3)
        centre = 3 * functional.normalize(weight[0] + weight[1] - weight[2] - weight[3], dim=0)

    def load() -> Tensor:
        x = centre + torch.randn(64, 6, generator=generator)
        return experts(x, all_of(x)).load

    def mean(steps: int, *, balanced: bool) -> Tensor:
        total = torch.zeros(4)
        for _ in range(steps):
            found = load()
            total += found / steps
            if balanced:
                experts.balance(found)
        return total

    assert mean(20, balanced=False).min() < 0.5 / 4
    mean(300, balanced=True)
    after = mean(100, balanced=True)
    assert after.min() > 0.5 / 4
    torch.testing.assert_close(after.sum(), torch.tensor(1.0))
