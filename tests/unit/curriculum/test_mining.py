"""The memory bank, and the hardest codes it gives, against a brute-force reference."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from naics_job.curriculum import mining
from naics_job.curriculum.mining import MemoryBank, hardest, router_guided
from naics_job.geometry import lorentz
from naics_job.geometry.lorentz import exp_map_origin, geodesic_distance
from naics_job.taxonomy.tree import BoolArray, IntArray

N, DIM, EXPERTS = 60, 5, 3


def full_bank(allowed: BoolArray | None = None, filled: int = N) -> MemoryBank:
    generator = torch.Generator().manual_seed(0)
    bank = MemoryBank(np.ones(N, dtype=bool) if allowed is None else allowed, DIM, EXPERTS)
    points = exp_map_origin(torch.randn(N, DIM, generator=generator), 1.0)
    gates = torch.randn(N, EXPERTS, generator=generator).softmax(dim=1)
    bank.update(torch.arange(filled), points[:filled], gates[:filled])
    return bank


def only_self(anchors: IntArray) -> mining.Forbidden:
    return lambda codes: anchors[:, None] == codes[None, :]


def reference(bank: MemoryBank, anchor: int, k: int) -> list[int]:
    distance = geodesic_distance(bank.points[anchor].double(), bank.points.double(), 1.0)
    order = [int(code) for code in distance.argsort() if code != anchor and bank.filled[code]]
    return order[:k]


@pytest.mark.parametrize("block", [7, 60, 8192])
def test_the_nearest_codes_of_the_whole_taxonomy_are_found(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mining, "BLOCK_CODES", block)
    bank, anchors = full_bank(), np.array([3, 30, 59])
    found = hardest(bank, anchors, only_self(anchors), 6, 1.0)
    for anchor, row in zip(anchors, found, strict=True):
        assert row.tolist() == reference(bank, int(anchor), 6)


@pytest.mark.parametrize("block", [7, 8192])
def test_router_guided_codes_have_the_smallest_divergence(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mining, "BLOCK_CODES", block)
    bank, anchors = full_bank(), np.array([3, 30])
    found = router_guided(bank, anchors, only_self(anchors), 5)
    for anchor, row in zip(anchors, found, strict=True):
        own = torch.distributions.Categorical(bank.gates[anchor].double())
        others = torch.distributions.Categorical(bank.gates.double())
        divergence = torch.distributions.kl_divergence(own, others)
        order = [int(code) for code in divergence.argsort() if code != anchor]
        assert row.tolist() == order[:5]


class NoFloat64(TorchDispatchMode):
    """A device that has no float64, as far as results of operations tell."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dtype == torch.float64:
            raise TypeError(f"{func} gives float64, which this device does not have")
        return result


def test_mining_works_on_a_device_without_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (mining, lorentz):  # what `widen` does on mps
        monkeypatch.setattr(place, "widen", lambda x: x.to(torch.float32))
    bank, anchors = full_bank(), np.array([3, 30, 59])
    with NoFloat64():
        near = hardest(bank, anchors, only_self(anchors), 6, 1.0)
        alike = router_guided(bank, anchors, only_self(anchors), 6)
    assert near[0].tolist() == reference(bank, 3, 6)
    assert (alike >= 0).all()


def test_forbidden_codes_are_never_mined() -> None:
    bank, anchors = full_bank(), np.array([3, 30])
    forbidden = np.zeros((2, N), dtype=bool)
    forbidden[0, ::2] = forbidden[1, 10:] = True
    found = hardest(bank, anchors, lambda codes: forbidden[:, codes], 8, 1.0)
    assert not forbidden[np.array([[0], [1]]), found].any()


def test_too_few_codes_leave_minus_one() -> None:
    bank, anchors = full_bank(filled=5), np.array([3, 30])
    found = hardest(bank, anchors, only_self(anchors), 6, 1.0)
    assert sorted(found[0][:4]) == [0, 1, 2, 4]
    assert found[0][4:].tolist() == [-1, -1]
    assert found[1].tolist() == [-1] * 6  # anchor 30 was never stored
    assert hardest(bank, anchors, only_self(anchors), 0, 1.0).shape == (2, 0)


def test_held_out_codes_are_never_stored() -> None:
    allowed = np.ones(N, dtype=bool)
    allowed[[4, 8]] = False
    bank = full_bank(allowed)
    assert bank.filled.tolist() == allowed.tolist()
    assert not bank.points[[4, 8]].any()


def test_what_is_stored_is_detached_float32_and_saved() -> None:
    bank = full_bank(filled=0)
    points = torch.randn(2, DIM + 1, dtype=torch.float64, requires_grad=True)
    gates = torch.rand(2, EXPERTS, dtype=torch.float64, requires_grad=True)
    bank.update(torch.tensor([7, 1]), points, gates)
    assert bank.points.dtype == torch.float32
    assert not bank.points.requires_grad
    assert torch.equal(bank.points[7], points[0].detach().float())
    assert bank.filled.nonzero().flatten().tolist() == [1, 7]
    copy = MemoryBank(np.ones(N, dtype=bool), DIM, EXPERTS)
    copy.load_state_dict(bank.state_dict())
    assert torch.equal(copy.points, bank.points)
    assert torch.equal(copy.filled, bank.filled)
    assert set(bank.state_dict()) == {"points", "gates", "filled"}
