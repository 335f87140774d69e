"""How many codes and tokens a step of some batch size encodes."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from naics_job.config.data_schema import ChannelTokens
from naics_job.config.schema import Config
from naics_job.data.batch import code_batch
from naics_job.data.contracts import CHANNELS
from naics_job.data.datamodule import NaicsDataModule
from naics_job.data.loader_worker import AnchorDataset
from naics_job.data.prepare import NaicsData
from naics_job.data.sampler import EpochOrder
from naics_job.data.tokens import TokenStore
from naics_job.model.grouping import MAX_BLOCK_TOKENS, distinct_texts, length_blocks
from naics_job.taxonomy.codes import bundled_titles
from naics_job.taxonomy.tree import IntArray

NUM_BATCHES = 2  # drawn per batch size; the larger one counts


@dataclass(frozen=True)
class StepLoad:
    """What one step of `batch_size` anchors sends through the encoder."""

    batch_size: int
    codes: int  # unique
    tokens: int  # padding included
    blocks: int  # padded batches that the encoder is called with


@dataclass(frozen=True)
class StepLoads:
    """Loads by batch size, and where the numbers come from."""

    of: Callable[[int], StepLoad]
    max_batch_size: int  # anchors there are
    source: str


def loads_from_data(config: Config, data: NaicsData, tokens: TokenStore) -> StepLoads:
    """Loads of real batches of phase 1, with the flattest weights of its negatives."""
    module = NaicsDataModule(data, config, global_batch_size=1, micro_batches=1)
    anchors, curriculum = module.order.anchors, config.curriculum
    alpha, threshold = curriculum.anneal.tree_distance_alpha_end, 0
    k = config.data_loader.num_negatives

    def codes_of(batch_size: int, index: int) -> IntArray:
        order = EpochOrder(anchors, config.seed, batch_size)
        batch = AnchorDataset(order, module.positives, 1)[(0, index % order.num_batches)]
        draws = batch.draws(config.seed)
        share = curriculum.exclusion_share
        negatives = module.negatives.draw(batch.anchors, k, alpha, threshold, share, draws)
        return code_batch(batch, negatives).codes.numpy()

    def load(batch_size: int) -> StepLoad:
        drawn = [codes_of(batch_size, index) for index in range(NUM_BATCHES)]
        return max((_load(batch_size, codes, tokens) for codes in drawn), key=lambda x: x.tokens)

    source = f"batches drawn from the prepared data ({data.source}, {len(data.taxonomy):,} codes)"
    return StepLoads(load, len(anchors), source)


def _load(batch_size: int, codes: IntArray, tokens: TokenStore) -> StepLoad:
    padded = blocks = 0
    for channel in CHANNELS:
        ragged = tokens.view(channel, codes, 0)
        lengths = np.asarray(ragged.lengths)[distinct_texts(ragged).rows]
        for rows in length_blocks(lengths):
            padded += len(rows) * int(lengths[rows].max())
            blocks += 1
    return StepLoad(batch_size, len(codes), padded, blocks)


def loads_from_settings(config: Config) -> StepLoads:
    """Upper limits without any data: every text as long as its channel allows.

    Codes are drawn uniformly from as many as the bundled table has, so that n draws from N codes
    give N (1 - (1 - 1/N)^n) different ones.
    """
    num_codes = config.data.max_codes or len(bundled_titles())
    limits: ChannelTokens = config.data_loader.tokenization.max_tokens
    per_code = sum(asdict(limits).values())

    def load(batch_size: int) -> StepLoad:
        draws = batch_size * (2 + config.data_loader.num_negatives)
        codes = math.ceil(num_codes * -math.expm1(draws * math.log1p(-1 / num_codes)))
        blocks = sum(-(-codes * limit // MAX_BLOCK_TOKENS) for limit in asdict(limits).values())
        return StepLoad(batch_size, codes, codes * per_code, blocks)

    source = (
        f"upper limits from the settings, as no data are prepared: {num_codes:,} codes of "
        f"{per_code} tokens (data_loader.tokenization.max_tokens)"
    )
    return StepLoads(load, num_codes, source)
