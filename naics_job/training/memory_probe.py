"""Peak memory of real training steps on a CUDA device, at growing batch sizes."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from naics_job.config.schema import Config
from naics_job.data.batch import code_batch
from naics_job.data.contracts import CHANNELS
from naics_job.data.prepare import NaicsData
from naics_job.data.sampler import EpochOrder
from naics_job.data.tokens import TokenStore
from naics_job.model.encoder import ChannelEncoder
from naics_job.model.features import FrozenFeatures
from naics_job.model.noise import StepNoise
from naics_job.model.weights import BaseWeights
from naics_job.training.build import Inputs, Job, build_job, build_queries
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
    run: Callable[[int], None],
    peak: Callable[[], int],
    limit_bytes: float,
) -> list[Probed]:
    """Run steps at growing batch sizes until one does not fit.

    Stops before a size that the last two measured ones, on a line over tokens, put above
    `limit_bytes`; a device that runs out of memory all the same ends it too.

    Args:
        loads: by growing batch size.
        run: takes a few steps at a batch size.
        peak: most bytes held since it was last called.
        limit_bytes: what may be used.
    """
    rows: list[Probed] = []
    for load in loads:
        if expected_bytes(rows, load) > limit_bytes:
            break
        try:
            peak()
            run(load.batch_size)
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
    config: Config,
    data: NaicsData,
    base: BaseWeights,
    tokens: TokenStore,
    loads: Iterable[StepLoad],
    limit_bytes: float,
) -> list[Probed]:
    """Train for a few steps at each batch size on the current CUDA device."""
    device = torch.device("cuda", torch.cuda.current_device())
    stepper = Stepper(config, data, base, tokens, device)

    def peak() -> int:
        held = torch.cuda.max_memory_allocated(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return held

    return probe(loads, stepper.run, peak, limit_bytes)


class Stepper:
    """Takes real optimizer steps that train the encoder, without the cached features."""

    def __init__(
        self,
        config: Config,
        data: NaicsData,
        base: BaseWeights,
        tokens: TokenStore,
        device: torch.device,
    ) -> None:
        encoder = ChannelEncoder(base, config.model)
        features = _no_features(len(data.taxonomy), encoder.hidden_size)
        loader = replace(config.data_loader, batch_size=1, global_batch_size=None)
        single = replace(config, data_loader=loader)
        num_items = config.data_loader.tokenization.query_items
        queries = build_queries(data, base, tokens, num_items)
        inputs = Inputs(data, base, tokens, queries, features, encoder)
        self.job: Job = build_job(single, inputs)
        self.module = self.job.module.to(device).train()
        self.device, self.seed = device, config.seed
        trained = [p for p in self.module.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained)
        self.half = half_precision(config, on_gpu=device.type == "cuda")

    def run(self, batch_size: int) -> None:
        """Take `STEPS` steps of `batch_size` anchors."""
        for index in range(STEPS):
            loss = self.loss(batch_size, index)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.optimizer.zero_grad()

    def loss(self, batch_size: int, index: int) -> Tensor:
        """The objective of one batch, as `NaicsModule.training_step` computes it in phase 1."""
        module, dataset = self.module, self.job.datamodule.dataset
        order = EpochOrder(self.job.datamodule.order.anchors, self.seed, batch_size)
        batch = type(dataset)(order, dataset.positives, 1)[(0, index % order.num_batches)]
        state = module.curriculum.at(0)
        codes = code_batch(batch, module.planner.choose(batch, state)).to(self.device)
        asked = module.step_encoder.queries.draw(batch, self.seed)
        with self._precision():
            noise = StepNoise.of(self.seed, 0, index)
            encoded, points = module.step_encoder.step(codes, asked, adapters=True, noise=noise)
            module.bank.update(codes.codes, encoded.points, encoded.gates)
            inputs = loss_inputs(
                encoded, points, asked, codes, module.planner, state, module.taxonomy
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


def _no_features(num_codes: int, hidden_size: int) -> FrozenFeatures:
    """Features of 0: steps that train the encoder do not read them."""
    channels = len(CHANNELS)
    return FrozenFeatures(
        base=torch.zeros(num_codes, channels, hidden_size),
        present=torch.ones(num_codes, channels, dtype=torch.bool),
        extra=torch.zeros(0, hidden_size),
        extra_row=torch.zeros(0, num_codes, channels, dtype=torch.int32),
        query=torch.zeros(0, hidden_size),
        query_start=torch.zeros(num_codes + 1, dtype=torch.int64),
    )
