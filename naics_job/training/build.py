"""Config -> the objects of a run. The only place that constructs them."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from naics_job.checkpoint.manifest import RunManifest
from naics_job.checkpoint.payload import architecture_of
from naics_job.config.batches import plan_batches
from naics_job.config.length import RunLength, plan_length
from naics_job.config.schema import Config
from naics_job.curriculum.false_negatives import ClusterState
from naics_job.curriculum.mining import MemoryBank
from naics_job.curriculum.plan import NegativePlanner
from naics_job.curriculum.schedule import Borders, Curriculum, Phase
from naics_job.data.datamodule import NaicsDataModule
from naics_job.data.prepare import NaicsData, load_dataset, prepare_all
from naics_job.data.query_tokens import QueryTokenizer
from naics_job.data.query_views import QueryViews
from naics_job.data.tokens import TokenStore, load_tokenizer
from naics_job.distributed import main_first, world_size
from naics_job.model.embedder import NaicsEmbedder
from naics_job.model.encoder import ChannelEncoder, check_max_tokens
from naics_job.model.features import FrozenFeatures, open_or_compute
from naics_job.model.weights import BaseWeights, max_positions, resolve_base
from naics_job.observability.heartbeat import beat, rest
from naics_job.observability.logs import event
from naics_job.storage.files import cache_folder, join
from naics_job.training.encoding import Sources
from naics_job.training.module import NaicsModule, Network
from naics_job.training.provenance import provenance_of
from naics_job.training.weights import weights_of

log = logging.getLogger(__name__)

STAGE_ENDS = {  # phase borders of a run that has one phase only
    Phase.STRUCTURAL: (1.0, 1.0, 1.0),
    Phase.GEOMETRIC: (0.0, 1.0, 1.0),
    Phase.MITIGATION: (0.0, 0.0, 1.0),
}


@dataclass(frozen=True)
class Inputs:
    """What a run reads: data, base weights, tokens, frozen features, and the encoder on them."""

    data: NaicsData
    base: BaseWeights
    tokens: TokenStore
    queries: QueryViews
    features: FrozenFeatures
    encoder: ChannelEncoder


@dataclass(frozen=True)
class Job:
    """A run ready to be fitted."""

    inputs: Inputs
    datamodule: NaicsDataModule
    module: NaicsModule
    length: RunLength

    @property
    def architecture(self) -> str:
        """Names and shapes of the weights, see `checkpoint.payload.architecture_of`."""
        return architecture_of(weights_of(self.module.state_dict()))


def build_inputs(config: Config) -> Inputs:
    """Prepare the tables that are missing or out of date, then `read_inputs`.

    The main process does it first; the others find tables, tokens and features on disk, or make
    their own where the disk is not shared.
    """
    with main_first():
        for result in prepare_all(config):
            if not result.rebuilt:  # building one has been told
                event(log, logging.INFO, "data.up_to_date", url=result.url, rows=result.rows)
        return read_inputs(config)


def read_inputs(config: Config) -> Inputs:
    """Read what is prepared; the frozen pass over all texts is done here once.

    Nothing is written but tokens and features, whose names are digests of their content.

    Raises:
        DataError: a table is missing, damaged or of other settings.
    """
    data = load_dataset(config)
    base = resolve_base(config.model, cache_folder(config.dirs.data_dir) / "models")
    check_max_tokens(config.data_loader.tokenization.max_tokens, max_positions(base.folder))
    tokens = TokenStore.open_or_build(data, base.folder, config.data_loader)
    torch.manual_seed(config.seed)  # of the adapters' first factors
    encoder = ChannelEncoder(base, config.model)
    encoder.to(encoding_device(config))
    folder = join(config.dirs.data_dir, "features")
    tokenization = config.data_loader.tokenization
    queries = build_queries(data, base, tokens, tokenization.query_items)
    features = open_or_compute(
        encoder,
        tokens,
        tokenization,
        folder,
        queries,
        FrozenPassReporter(),
        bf16=encodes_in_bfloat16(config),
    )
    rest()  # the next thing may be to wait until another process has done the same
    return Inputs(data, base, tokens, queries, features, encoder)


def build_queries(
    data: NaicsData, base: BaseWeights, tokens: TokenStore, num_items: int
) -> QueryViews:
    """The short texts that training asks, tokenized as a search with this model will do it."""
    tokenizer = QueryTokenizer(load_tokenizer(base.folder)[0], tokens.max_tokens)
    return QueryViews(data.taxonomy, data.texts, num_items, tokenizer)


def build_job(
    config: Config,
    inputs: Inputs,
    started: RunManifest | None = None,
    only_phase: Phase | None = None,
) -> Job:
    """Build the model, the batches and the curriculum.

    Args:
        config: the settings.
        inputs: see `build_inputs`.
        started: what the run froze at its first start, None when it starts now.
        only_phase: stay in this phase from the first step to the last.
    """
    batches = plan_batches(config, world_size(), started.global_batch_size if started else None)
    datamodule = NaicsDataModule(
        inputs.data,
        config,
        global_batch_size=batches.global_batch_size,
        micro_batches=batches.micro_batches,
    )
    length = plan_length(config.training, datamodule.steps_per_epoch, batches.micro_batches)
    frozen = Borders.from_dict(started.borders) if started else None  # type: ignore[arg-type]
    borders = Borders.planned(config.curriculum, length.total_steps, frozen)
    if only_phase is not None:
        borders = Borders(length.total_steps, *STAGE_ENDS[only_phase], two_phase=False)
    curriculum = Curriculum(config.curriculum, config.sampling, borders)
    torch.manual_seed(config.seed)
    embedder = NaicsEmbedder(config.model, config.loss, inputs.encoder.hidden_size)
    taxonomy = inputs.data.taxonomy
    training = torch.from_numpy(datamodule.train)
    embedder.center(*(tensor.cpu() for tensor in inputs.features.rows(training, 0)))
    bank = MemoryBank(datamodule.allowed, config.model.embedding_dim, config.model.moe.num_experts)
    clusters = ClusterState(len(taxonomy))
    planner = NegativePlanner(config, datamodule.negatives, bank, clusters)
    sources = Sources(taxonomy, inputs.tokens, inputs.queries, inputs.features)
    provenance = provenance_of(inputs.data, inputs.base, datamodule.heldout)
    network = Network(inputs.encoder, embedder, bank, provenance)
    module = NaicsModule(config, sources, network, planner, curriculum)
    return Job(inputs, datamodule, module, length)


def trains_on_gpu(config: Config) -> bool:
    """Whether training will use CUDA devices."""
    accelerator = config.training.trainer.get("accelerator", "auto")
    return accelerator != "cpu" and torch.cuda.is_available()


def encoding_device(config: Config) -> torch.device:
    """Where the frozen pass runs: the GPU of this process when training uses one."""
    if trains_on_gpu(config):
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def encodes_in_bfloat16(config: Config) -> bool:
    """Whether the frozen pass multiplies in bfloat16: as set, or where the device is fast in it."""
    if config.model.frozen_precision != "auto":
        return config.model.frozen_precision == "bfloat16"
    if encoding_device(config).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return "avx512_bf16" in _cpu_flags()


def _cpu_flags() -> set[str]:
    """Instruction sets of the processor; empty where the system does not list them."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else []
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())


class FrozenPassReporter:
    """Logs the frozen pass at every tenth of its tokens, and shows that it goes on."""

    def __init__(self) -> None:
        self.next = 0.1

    def __call__(self, done: int, total: int) -> None:
        beat()
        if done >= self.next * total:
            fields: dict[str, Any] = {"tokens": done, "percent": round(100 * done / total)}
            event(log, logging.INFO, "features.encoding", **fields)
            self.next = done / total + 0.1
