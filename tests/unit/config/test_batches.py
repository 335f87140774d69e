"""How a global batch is shared out, and what is said when it cannot be."""

import pytest

from naics_job.config.batches import BatchPlan, plan_batches
from naics_job.config.load import load_config
from naics_job.config.schema import Config
from naics_job.errors import ConfigError

SIZE = "data_loader.global_batch_size"
ACCUMULATE = "training.trainer.accumulate_grad_batches"


def config(*overrides: str) -> Config:
    return load_config(None, "smoke", ["data_loader.batch_size=6", *overrides]).config


def test_without_a_global_batch_the_parts_add_up() -> None:
    assert plan_batches(config(), 1) == BatchPlan(6, 1)
    assert plan_batches(config(f"{ACCUMULATE}=3"), 1) == BatchPlan(18, 3)
    assert plan_batches(config(f"{ACCUMULATE}=3"), 4) == BatchPlan(72, 3)


@pytest.mark.parametrize(
    ("processes", "frozen", "expected"),
    [
        (1, None, BatchPlan(48, 8)),
        (4, None, BatchPlan(48, 2)),
        (8, None, BatchPlan(48, 1)),
        (16, None, BatchPlan(48, 1)),  # 3 anchors for each, 6 would be too many
        (2, 36, BatchPlan(36, 3)),  # a resume keeps the batch of the first start
        (2, 8, BatchPlan(8, 1)),
    ],
)
def test_with_a_global_batch_the_accumulation_follows(
    processes: int, frozen: int | None, expected: BatchPlan
) -> None:
    assert plan_batches(config(f"{SIZE}=48"), processes, frozen) == expected


def test_an_accumulation_that_fits_may_be_set() -> None:
    assert plan_batches(config(f"{SIZE}=48", f"{ACCUMULATE}=4"), 2) == BatchPlan(48, 4)


@pytest.mark.parametrize(
    ("overrides", "processes", "frozen", "words", "hint"),
    [
        ([f"{SIZE}=32"], 1, None, "global_batch_size=32 cannot", "batch_size=4 or 8"),
        ([f"{SIZE}=64"], 2, None, "global_batch_size=64 cannot", "batch_size=4 or 8"),
        ([f"{SIZE}=10"], 4, None, "global_batch_size=10 cannot", f"{SIZE}=8 or 12"),
        ([f"{SIZE}=3"], 4, None, "global_batch_size=3 cannot", f"{SIZE}=4"),
        ([], 1, 32, "first start of the run, cannot", "batch_size=4 or 8"),
        ([], 4, 6, "first start of the run, cannot", "processes that divides 6"),
        ([f"{SIZE}=48", f"{ACCUMULATE}=3"], 2, None, "makes 4 micro-batches", f"{ACCUMULATE}=1"),
        ([f"{ACCUMULATE}=2"], 1, 36, "makes 6 micro-batches", f"{ACCUMULATE}=1"),
    ],
)
def test_what_does_not_divide_is_refused_with_values_to_try(
    overrides: list[str], processes: int, frozen: int | None, words: str, hint: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        plan_batches(config(*overrides), processes, frozen)
    assert caught.value.exit_code == 78
    assert hint in caught.value.hint


@pytest.mark.parametrize("processes", [1, 2, 4, 8, 16])
def test_the_ddp_profile_fits_any_power_of_two(processes: int) -> None:
    ddp = load_config(None, "ddp").config
    assert plan_batches(ddp, processes).global_batch_size == 512
