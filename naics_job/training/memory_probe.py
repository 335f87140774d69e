"""Peak memory of real training steps on a CUDA device, at growing batch sizes."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from naics_job.config.schema import Config
from naics_job.data.batch import code_batch
from naics_job.data.loader_worker import AnchorDataset
from naics_job.data.sampler import EpochOrder
from naics_job.model.noise import StepNoise
from naics_job.training.asked import query_draws
from naics_job.training.build import Inputs, Job, build_job
from naics_job.training.inputs import loss_inputs
from naics_job.training.step_load import StepLoad

STEPS = 2  # per batch size: the first allocates the optimizer's state, the second shows the peak


@dataclass(frozen=True)
class Probed:
    """One batch size; `peak_bytes` is None where the device ran out of memory."""

    load: StepLoad
    peak_bytes: int | None


def probe(
    loads: Iterable[StepLoad],
    run: Callable[[StepLoad], None],
    peak: Callable[[], int],
    limit_bytes: float,
) -> list[Probed]:
    """Run steps at growing batch sizes until one does not fit.

    Stops before a size that the last two measured ones, on a line over tokens, put above
    `limit_bytes`; a device that runs out of memory all the same ends it too.

    Args:
        loads: by growing batch size.
        run: takes a few steps of a load.
        peak: most bytes held since it was last called.
        limit_bytes: what may be used.
    """
    rows: list[Probed] = []
    for load in loads:
        if expected_bytes(rows, load) > limit_bytes:
            break
        try:
            peak()
            run(load)
            rows.append(Probed(load, peak()))
        except torch.OutOfMemoryError:
            rows.append(Probed(load, None))
            break
        if rows[-1].peak_bytes is not None and rows[-1].peak_bytes > limit_bytes:
            break
    return rows


def expected_bytes(rows: list[Probed], load: StepLoad) -> float:
    """Peak of `load` by the line through the last two measured rows; 0 with less than two."""
    known = [(row.load.tokens, row.peak_bytes) for row in rows if row.peak_bytes is not None]
    if len(known) < 2 or known[-1][0] == known[-2][0]:
        return 0.0
    (tokens_a, bytes_a), (tokens_b, bytes_b) = known[-2:]
    slope = max(0.0, (bytes_b - bytes_a) / (tokens_b - tokens_a))
    return bytes_b + slope * (load.tokens - tokens_b)


def probe_cuda(
    config: Config, inputs: Inputs, loads: Iterable[StepLoad], limit_bytes: float
) -> list[Probed]:
    """Train for a few steps of each load on the current CUDA device."""
    device = torch.device("cuda", torch.cuda.current_device())
    stepper = Stepper(config, inputs, device)

    def peak() -> int:
        held = torch.cuda.max_memory_allocated(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return held

    return probe(loads, stepper.run, peak, limit_bytes)


class Stepper:
    """Takes real optimizer steps that train the encoder.

    One process does what several would: it encodes the micro-batches of all, one after the other.
    """

    def __init__(self, config: Config, inputs: Inputs, device: torch.device) -> None:
        loader = replace(config.data_loader, batch_size=1, global_batch_size=None)
        trainer = {**config.training.trainer, "accumulate_grad_batches": 1}
        training = replace(config.training, trainer=trainer)
        single = replace(config, data_loader=loader, training=training)
        self.job: Job = build_job(single, inputs)
        self.config, self.device = config, device
        self.module = self.job.module.to(device).train()
        self.module.step_encoder.to(device)
        trained = [p for p in self.module.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained)
        self.half = half_precision(config, on_gpu=device.type == "cuda")

    def run(self, load: StepLoad) -> None:
        """Take `STEPS` steps of `load`."""
        for index in range(STEPS):
            loss = self.loss(load, index)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.optimizer.zero_grad()

    def loss(self, load: StepLoad, index: int) -> Tensor:
        """The objective of one batch, as `NaicsModule.training_step` computes it in phase 1."""
        module, seed, config = self.module, self.config.seed, self.config
        order = EpochOrder(self.job.datamodule.order.anchors, seed, load.anchors)
        dataset = AnchorDataset(order, self.job.datamodule.positives)
        batch = dataset[(0, index % order.num_batches)]
        state = module.curriculum.at(0)
        asked = module.queries.draw(query_draws(config, batch))
        negatives = module.planner.choose(batch, state)
        codes = code_batch(batch, negatives, asked.answers).to(self.device)
        module.step_encoder.parts = load.micro_batches
        with self._precision():
            noise = StepNoise.of(seed, 0, index)
            encoded = module.step_encoder.step(codes, asked, adapters=True, noise=noise)
            module.bank.update(codes.codes, encoded.codes.points, encoded.codes.gates)
            code_text = module.step_encoder.code_text
            inputs = loss_inputs(
                encoded, asked, codes, module.planner, state, module.taxonomy, code_text
            )
            total: Tensor = module.objective(inputs)["total"]
        return total

    def _precision(self) -> AbstractContextManager[object]:
        if not self.half:
            return nullcontext()
        dtype = torch.float16 if self.device.type == "cuda" else torch.bfloat16
        return torch.autocast(self.device.type, dtype)


def half_precision(config: Config, on_gpu: bool) -> bool:
    """Whether steps run in 16 bits; `auto` means so on a GPU."""
    precision = str(config.training.trainer.get("precision", "32-true"))
    return on_gpu if precision == "auto" else "16" in precision
