"""When the adapters train, and when they rest."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from naics_job.config.load import load_config
from naics_job.curriculum.schedule import Borders, Curriculum
from naics_job.training.module import NaicsModule

STEPS = 100


def module_like(*overrides: str, seed: int = 42) -> Any:
    """What the rules read of a module; phases begin at steps 0, 40 and 80."""
    loaded = load_config(None, "smoke", [*overrides, f"seed={seed}"]).config
    borders = Borders.planned(loaded.curriculum, STEPS, None)
    curriculum = Curriculum(loaded.curriculum, loaded.sampling, borders)
    fake = SimpleNamespace(config=loaded, curriculum=curriculum)
    fake.lora_first_step = NaicsModule.lora_first_step.fget(fake)  # type: ignore[attr-defined]
    return fake


@pytest.mark.parametrize(
    ("start", "overrides", "first"),
    [
        (1, [], 0),
        ("null", [], None),
        (2, [], 40),
        (3, [], 80),
        (3, ["curriculum.phase_mode=two_phase"], None),
        (3, ["curriculum.phase2_end=1.0"], None),
        (2, ["curriculum.phase2_end=0.4"], 40),  # no phase 2: phase 3 comes at once
        (3, ["curriculum.phase2_end=0.8", "curriculum.phase3_end=0.8"], None),
        (2, ["curriculum.phase1_end=1", "curriculum.phase2_end=1"], None),
    ],
)
def test_adapters_start_with_their_phase(
    start: int | str, overrides: list[str], first: int | None
) -> None:
    fake = module_like(f"model.lora.start_phase={start}", *overrides)
    assert fake.lora_first_step == first
    active = [NaicsModule.lora_active(fake, step) for step in range(STEPS)]
    assert active == [first is not None and step >= first for step in range(STEPS)]


def test_adapters_go_on_after_the_mitigation_has_ended() -> None:
    fake = module_like("model.lora.start_phase=3", "curriculum.phase3_end=0.9")
    assert NaicsModule.lora_active(fake, 95)


@pytest.mark.parametrize("step", [0, 79, 80, 99])
def test_resting_adapters_have_no_gradient_rather_than_one_of_zero(step: int) -> None:
    """With one of 0, which several processes exchange, Adam would count their steps of rest."""
    fake = module_like("model.lora.start_phase=3")
    fake.lora_active = lambda step: NaicsModule.lora_active(fake, step)
    fake.trainer = SimpleNamespace(global_step=step)
    fake.encoder = torch.nn.Linear(2, 2)
    fake.encoder(torch.ones(1, 2)).sum().backward()
    optimizer = torch.optim.AdamW(fake.encoder.parameters())
    NaicsModule.on_before_optimizer_step(fake, optimizer)
    assert (fake.encoder.weight.grad is None) == (step < 80)
