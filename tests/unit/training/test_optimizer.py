from dataclasses import replace

import pytest
import torch
from torch import nn

from naics_job.config.load import load_config
from naics_job.config.train_schema import TrainingConfig
from naics_job.loss.objective import Objective
from naics_job.model.embedder import NaicsEmbedder, Sizes
from naics_job.training.optimizer import build_optimizer, rate_factor


@pytest.fixture
def settings() -> TrainingConfig:
    return replace(load_config().config.training, warmup_steps=10, min_learning_rate_ratio=0.1)


def test_warm_up_then_cosine_to_the_floor(settings: TrainingConfig) -> None:
    factor = rate_factor(settings, total_steps=110)
    assert factor(0) == pytest.approx(1 / 11)
    assert [factor(step) for step in range(10)] == sorted(factor(step) for step in range(10))
    assert factor(10) == pytest.approx(1.0)
    assert factor(60) == pytest.approx(0.55)
    assert factor(110) == factor(500) == pytest.approx(0.1)


def test_constant_after_the_warm_up_without_cosine(settings: TrainingConfig) -> None:
    factor = rate_factor(replace(settings, use_warmup_cosine=False), total_steps=110)
    assert factor(10) == factor(109) == 1.0


def test_warm_up_never_eats_a_short_run(settings: TrainingConfig) -> None:
    factor = rate_factor(replace(settings, warmup_steps=1000), total_steps=50)
    assert factor(5) == pytest.approx(1.0)


def test_groups_have_their_own_rate_decay_and_start(settings: TrainingConfig) -> None:
    weight, scale = nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.ones(4))
    expert, adapter = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2, 2))
    head = [("maps", weight), ("log_scale", scale), ("experts.first", expert)]
    optimizer, schedule = build_optimizer(
        head, [("lora", adapter)], settings, 110, lora_first_step=60, global_batch_size=32
    )
    groups = {group["name"]: group for group in optimizer.param_groups}
    members = {name: [id(p) for p in group["params"]] for name, group in groups.items()}
    assert members == {
        "maps": [id(weight)],
        "scales": [id(scale)],
        "experts": [id(expert)],
        "lora": [id(adapter)],
    }
    decays = {name for name, group in groups.items() if group["weight_decay"] > 0}
    assert decays == {"experts"}
    for _ in range(60):
        optimizer.step()
        schedule.step()
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates["lora"] == pytest.approx(settings.lora_learning_rate / 6)  # warm-up of 5 begins
    assert rates["maps"] < settings.learning_rate
    assert rates["scales"] < settings.scale_learning_rate


def test_the_groups_of_the_real_network(settings: TrainingConfig) -> None:
    config = load_config(None, None, ["loss.learn_curvature=true"]).config
    embedder = NaicsEmbedder(config.model, config.loss, Sizes(32, 50, levels=5, codes=40))
    objective = Objective(config.loss, config.false_negatives)
    head = [*embedder.named_parameters(), *objective.named_parameters()]
    lora = [("text.lora_A", nn.Parameter(torch.ones(2, 2)))]
    optimizer, _ = build_optimizer(head, lora, settings, 110, 60, global_batch_size=32)
    named = {id(parameter): name for name, parameter in [*head, *lora]}
    groups = {
        group["name"]: {named[id(parameter)] for parameter in group["params"]}
        for group in optimizer.param_groups
    }
    experts = groups["experts"]
    assert {"experts.router.linear.bias", "experts.into", "experts.out_bias"} < experts
    assert all(name.startswith("experts.") for name in experts)
    assert groups["maps"] == {"maps", "map_bias", "null", "offsets.table"}
    scales = {"channel_logits", "log_tree", "log_text", "log_words", "curvature_shift"}
    assert groups["scales"] == scales | {"terms.hierarchy.log_scale"}
    assert groups["lora"] == {"text.lora_A"}
    assert sum(map(len, groups.values())) == len(named)  # each is in one


@pytest.mark.parametrize(("size", "factor"), [(8, 0.5), (32, 1.0), (128, 2.0), (4096, 2.0)])
def test_rates_grow_with_the_root_of_the_batch_up_to_twice(
    settings: TrainingConfig, size: int, factor: float
) -> None:
    head = [(name, nn.Parameter(torch.ones(3, 4))) for name in ("maps", "experts.into")]
    lora = [("lora", nn.Parameter(torch.ones(2, 2)))]
    optimizer, _ = build_optimizer(head, lora, settings, 110, 0, global_batch_size=size)
    rates = {group["name"]: group["initial_lr"] for group in optimizer.param_groups}
    assert rates["maps"] == rates["experts"] == pytest.approx(factor * settings.learning_rate)
    assert rates["scales"] == pytest.approx(factor * settings.scale_learning_rate)
    assert rates["lora"] == pytest.approx(factor * settings.lora_learning_rate)
