"""Config -> the objects of a run. The only place that constructs them."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from naics_job.checkpoint.manifest import RunManifest
from naics_job.config.batches import plan_batches
from naics_job.config.length import RunLength, plan_length
from naics_job.config.schema import Config
from naics_job.curriculum.false_negatives import ClusterState
from naics_job.curriculum.mining import MemoryBank
from naics_job.curriculum.plan import NegativePlanner
from naics_job.curriculum.schedule import Borders, Curriculum, Phase
from naics_job.data.datamodule import NaicsDataModule
from naics_job.data.extra_texts import extra_texts, usable_extra
from naics_job.data.labelled import LabelledTexts, read_labelled
from naics_job.data.masks import training_mask
from naics_job.data.prepare import NaicsData, load_dataset, prepare_all
from naics_job.data.query_pool import QueryPool, QuerySampler
from naics_job.data.query_tokens import QueryTokenizer
from naics_job.data.splits import Splits
from naics_job.data.tokens import TokenStore, load_tokenizer
from naics_job.distributed import main_first, world_size
from naics_job.model.embedder import NaicsEmbedder, Sizes
from naics_job.model.encoder import TextEncoder, check_max_tokens
from naics_job.model.features import (
    AskedTexts,
    CodeFeatures,
    FrozenFeatures,
    ShownTexts,
    open_or_compute,
)
from naics_job.model.lexical import CodeWords, counts_by_code
from naics_job.model.weights import BaseWeights, max_positions, resolve_base
from naics_job.observability.heartbeat import beat, rest
from naics_job.observability.logs import event
from naics_job.storage.files import cache_folder, join
from naics_job.taxonomy.tree import IntArray
from naics_job.training.encoding import Sources
from naics_job.training.module import NaicsModule, Network
from naics_job.training.provenance import provenance_of
from naics_job.training.weights import module_architecture

log = logging.getLogger(__name__)

STAGE_ENDS = {  # phase borders of a run that has one phase only
    Phase.STRUCTURAL: (1.0, 1.0, 1.0),
    Phase.GEOMETRIC: (0.0, 1.0, 1.0),
    Phase.MITIGATION: (0.0, 0.0, 1.0),
}


@dataclass(frozen=True)
class Inputs:
    """What a run reads: data, base weights, tokens, texts to ask, frozen features, the encoder."""

    data: NaicsData
    base: BaseWeights
    tokens: TokenStore
    queries: QueryPool
    features: FrozenFeatures
    encoder: TextEncoder
    labelled: LabelledTexts | None


@dataclass(frozen=True)
class Job:
    """A run ready to be fitted."""

    inputs: Inputs
    datamodule: NaicsDataModule
    module: NaicsModule
    length: RunLength

    @property
    def architecture(self) -> str:
        """Of the module, see there."""
        return module_architecture(self.module.state_dict())


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
    labelled = read_labelled_texts(config, data)
    base = resolve_base(config.model, cache_folder(config.dirs.data_dir) / "models")
    check_max_tokens(config.data_loader.tokenization.max_tokens, max_positions(base.folder))
    tokens = TokenStore.open_or_build(data, base.folder, config.data_loader)
    torch.manual_seed(config.seed)  # of the adapters' first factors
    encoder = TextEncoder(base, config.model, bf16=encodes_in_bfloat16(config))
    encoder.to(encoding_device(config))
    queries = build_queries(data, base, tokens, labelled)
    features = open_or_compute(
        encoder,
        tokens,
        AskedTexts(queries.asked_tokens, queries.labelled_tokens, queries.labelled_code),
        config.data_loader.tokenization,
        join(config.dirs.data_dir, "features"),
        FrozenPassReporter(),
    )
    rest()  # the next thing may be to wait until another process has done the same
    return Inputs(data, base, tokens, queries, features, encoder, labelled)


def read_labelled_texts(config: Config, data: NaicsData) -> LabelledTexts | None:
    """The user's own texts, where the settings name them."""
    url = config.data.labelled_texts
    return read_labelled(url, data.taxonomy, "data.labelled_texts") if url else None


def query_tokenizer(base: BaseWeights, tokens: TokenStore) -> QueryTokenizer:
    """Reads a free text as a search does: in full, as far as a description goes."""
    return QueryTokenizer(load_tokenizer(base.folder)[0], tokens.max_tokens["description"])


def build_queries(
    data: NaicsData,
    base: BaseWeights,
    tokens: TokenStore,
    labelled: LabelledTexts | None,
) -> QueryPool:
    """Every text that can be asked; which of them training asks is decided with the splits."""
    extra = extra_texts(data, labelled)
    tokenize = query_tokenizer(base, tokens)
    return QueryPool(data.taxonomy, tokens, extra, tokenize)


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
    datamodule = NaicsDataModule(inputs.data, config, global_batch_size=batches.global_batch_size)
    length = plan_length(config.training, datamodule.steps_per_epoch)
    frozen = Borders.from_dict(started.borders) if started else None  # type: ignore[arg-type]
    borders = Borders.planned(config.curriculum, length.total_steps, frozen)
    if only_phase is not None:
        borders = Borders(length.total_steps, *STAGE_ENDS[only_phase], two_phase=False)
    curriculum = Curriculum(config.curriculum, config.sampling, borders)
    sources = build_sources(config, inputs, datamodule.splits)
    torch.manual_seed(config.seed)
    embedder = build_embedder(config, inputs, sources, datamodule.train)
    taxonomy = inputs.data.taxonomy
    bank = MemoryBank(datamodule.allowed, embedder.dim, config.model.moe.num_experts)
    clusters = ClusterState(len(taxonomy))
    planner = NegativePlanner(config, datamodule.negatives, bank, clusters)
    held = np.flatnonzero(datamodule.splits.held())
    labelled = inputs.labelled.sha256 if inputs.labelled is not None else None
    provenance = provenance_of(inputs.data, inputs.base, held, labelled)
    network = Network(inputs.encoder, embedder, bank, provenance)
    size = batches.global_batch_size
    module = NaicsModule(config, sources, network, planner, curriculum, size)
    module.step_encoder.parts = batches.micro_batches
    return Job(inputs, datamodule, module, length)


def build_sources(config: Config, inputs: Inputs, splits: Splits) -> Sources:
    """What is encoded, with what held-out codes have in common with others taken out."""
    data, store = inputs.data, inputs.tokens
    held = splits.held()
    mask = training_mask(data.taxonomy, data.texts, held)
    extra = usable_extra(data, mask, inputs.labelled)
    usable = np.concatenate([mask.title, mask.examples, extra]) & ~held[inputs.queries.answers]
    validation = np.isin(inputs.queries.answers, splits.validation)
    parts = (mask.title, mask.description, mask.examples, mask.excluded)
    shown = ShownTexts(*(torch.from_numpy(part.copy()) for part in parts))
    size = store.vocabulary_size
    everything = np.ones_like(mask.examples), np.ones((len(held), 2), dtype=bool)
    plain = replace(config.data_loader.queries, boilerplate=0.0)
    own = np.stack([mask.title, mask.description], axis=1)
    return Sources(
        taxonomy=data.taxonomy,
        tokens=store,
        queries=QuerySampler(inputs.queries, usable, config.data_loader.queries),
        validation=QuerySampler(inputs.queries, validation, plain),
        features=inputs.features,
        shown=shown,
        words=CodeWords(store.segments, size, mask.examples, own),
        all_words=CodeWords(store.segments, size, *everything),
    )


def build_embedder(
    config: Config, inputs: Inputs, sources: Sources, train: IntArray
) -> NaicsEmbedder:
    """The network at its start: maps centred and words projected on the training codes."""
    taxonomy = inputs.data.taxonomy
    embedder = NaicsEmbedder(
        config.model,
        config.loss,
        Sizes(
            hidden=inputs.encoder.hidden_size,
            vocabulary=inputs.tokens.vocabulary_size,
            levels=int(taxonomy.depth.max()),
            codes=len(taxonomy),
        ),
    )
    features = CodeFeatures(inputs.features, sources.shown)
    embedder.center(*(part.cpu() for part in features.channels(torch.from_numpy(train))))
    if config.model.lexical_dim:
        leaves = np.intersect1d(train, taxonomy.six_digit())
        counts = sources.words.counts(leaves)
        if config.model.labelled_weight:
            pool, size = inputs.queries, inputs.tokens.vocabulary_size
            own = counts_by_code(pool.labelled_bare, pool.labelled_code, len(taxonomy), size)
            counts = counts + own[leaves]
        embedder.lexical.fit(counts)
    return embedder


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
    """Whether the encoder multiplies in bfloat16: as set, or where the device is fast in it."""
    if config.model.encoder_precision != "auto":
        return config.model.encoder_precision == "bfloat16"
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
