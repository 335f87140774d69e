"""AdamW with separate rates for the head and the LoRA adapters, warm-up and optional cosine."""

import math
from collections.abc import Callable, Iterable

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from naics_job.config.train_schema import TrainingConfig

BETAS = (0.9, 0.99)  # runs are short: a longer memory of squares would outlast the warm-up
REFERENCE_BATCH = 32  # anchors of a step that the rates of the settings are for
LARGEST_RATE = 2.0  # times those rates, whatever the batch
MAX_SCALES = 8  # a parameter of at most this many numbers is a scale, not a weight matrix


def rate_factor(
    config: TrainingConfig, total_steps: int, first_step: int = 0
) -> Callable[[int], float]:
    """Multiplier of the learning rate at an optimizer step.

    Linear warm-up from `first_step` on, at most a tenth of the steps that are left, then the cosine
    to `training.min_learning_rate_ratio`, or constant where `training.use_warmup_cosine` is off.
    """
    span = max(1, total_steps - first_step)
    warmup = min(config.warmup_steps, max(1, span // 10))
    floor = config.min_learning_rate_ratio

    def factor(step: int) -> float:
        done = max(0, step - first_step)
        if done < warmup:
            return (done + 1) / (warmup + 1)
        if not config.use_warmup_cosine:
            return 1.0
        progress = min(1.0, (done - warmup) / max(1, span - warmup))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor


def build_optimizer(
    head: Iterable[tuple[str, nn.Parameter]],
    lora: Iterable[tuple[str, nn.Parameter]],
    config: TrainingConfig,
    total_steps: int,
    lora_first_step: int,
    global_batch_size: int,
) -> tuple[AdamW, LambdaLR]:
    """The optimizer and its per-step schedule.

    Only the experts and their router decay: the channel maps start at the identity, from which a
    decay would drag them, and what remains are offsets and scales.

    Args:
        head: named parameters of everything but the encoder.
        lora: named parameters of the adapters; their warm-up starts at `lora_first_step`.
        config: rates, decay and schedule.
        total_steps: planned optimizer steps.
        lora_first_step: first optimizer step that trains the adapters.
        global_batch_size: anchors of a step. The rates are those of REFERENCE_BATCH anchors and
            grow with the square root of the batch, as Adam's steps do (Malladi et al. 2022,
            arXiv:2205.10287), up to LARGEST_RATE times.
    """
    members: dict[str, list[nn.Parameter]] = {name: [] for name in ("maps", "experts", "scales")}
    for name, parameter in head:
        if name.startswith("experts."):
            members["experts"].append(parameter)
        elif parameter.numel() <= MAX_SCALES:
            members["scales"].append(parameter)
        else:
            members["maps"].append(parameter)
    scale = min(LARGEST_RATE, math.sqrt(global_batch_size / REFERENCE_BATCH))
    members["lora"] = [parameter for _, parameter in lora]
    rates = {"scales": config.scale_learning_rate, "lora": config.lora_learning_rate}
    decay = {"experts": config.weight_decay}
    groups = [
        {
            "name": name,
            "params": parameters,
            "lr": scale * rates.get(name, config.learning_rate),
            "weight_decay": decay.get(name, 0.0),
        }
        for name, parameters in members.items()
    ]
    first = {"lora": lora_first_step}
    factors = [rate_factor(config, total_steps, first.get(name, 0)) for name in members]
    optimizer = AdamW(groups, betas=BETAS)
    return optimizer, LambdaLR(optimizer, factors)
