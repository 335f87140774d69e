"""How many texts, tokens and codes a step has, and how many tokens are encoded at once."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from naics_job.config.schema import Config
from naics_job.data.batch import code_batch
from naics_job.data.datamodule import NaicsDataModule
from naics_job.data.loader_worker import AnchorDataset
from naics_job.data.query_pool import QuerySampler
from naics_job.data.sampler import EpochOrder
from naics_job.data.tokens import Ragged
from naics_job.model.features import FrozenFeatures
from naics_job.model.grouping import MAX_BLOCK_TOKENS, distinct_texts, length_blocks
from naics_job.taxonomy.codes import bundled_titles
from naics_job.taxonomy.tree import IntArray
from naics_job.training.asked import query_draws, texts_per_anchor
from naics_job.training.build import Inputs

NUM_STEPS = 2  # drawn per batch size; the one with the longest piece counts
TEXTS_PER_CODE = 20  # with a cached feature; the Census has about 16


@dataclass(frozen=True)
class StepLoad:
    """What one optimizer step computes.

    The texts of `batch_size` anchors go through the encoder at once. What follows, for the texts
    and codes of the whole step, every process computes.
    """

    batch_size: int  # anchors per process and micro-batch
    anchors: int  # of the step, of all processes and micro-batches
    texts: int  # of the step
    codes: int  # of the step, unique
    tokens: int  # of the largest micro-batch, padding included
    blocks: int  # padded batches that the encoder is called with for it

    @property
    def micro_batches(self) -> int:
        """Pieces that the texts of the step are encoded in, on all processes together."""
        return math.ceil(self.anchors / self.batch_size)


@dataclass(frozen=True)
class StepLoads:
    """Loads by batch size and anchors per step, and where the numbers come from."""

    of: Callable[[int, int], StepLoad]
    max_batch_size: int  # anchors there are
    num_codes: int
    num_texts: int  # that have a cached feature
    source: str


def loads_from_data(config: Config, inputs: Inputs) -> StepLoads:
    """Loads of real steps of phase 1, with the flattest weights of its negatives.

    Texts are drawn from all there are, those of held-out codes among them.
    """
    data, queries = inputs.data, inputs.queries
    everything = np.ones(len(queries.answers), dtype=bool)
    sampler = QuerySampler(queries, everything, config.data_loader.queries)
    module = NaicsDataModule(data, config, global_batch_size=1)
    curriculum, k = config.curriculum, config.data_loader.num_negatives
    alpha, share = curriculum.anneal.tree_distance_alpha_end, curriculum.exclusion_share

    def drawn(batch_size: int, anchors: int, index: int) -> StepLoad:
        order = EpochOrder(module.order.anchors, config.seed, anchors)
        batch = AnchorDataset(order, module.positives)[(0, index % order.num_batches)]
        draws = batch.draws(config.seed)
        negatives = module.negatives.draw(batch.anchors, k, alpha, 0, share, draws)
        asked = sampler.draw(query_draws(config, batch))
        codes = len(code_batch(batch, negatives, asked.answers).codes)
        pieces = math.ceil(anchors / batch_size)
        tokens, blocks = _largest_piece(queries.tokens(asked), pieces)
        return StepLoad(batch_size, anchors, len(asked), codes, tokens, blocks)

    def load(batch_size: int, anchors: int) -> StepLoad:
        steps = [drawn(batch_size, anchors, index) for index in range(NUM_STEPS)]
        return max(steps, key=lambda step: step.tokens)

    return StepLoads(
        of=load,
        max_batch_size=len(module.order.anchors),
        num_codes=len(data.taxonomy),
        num_texts=_num_texts(inputs.features),
        source=f"steps drawn from the prepared data ({data.source}, {len(data.taxonomy):,} codes)",
    )


def _num_texts(features: FrozenFeatures) -> int:
    own = (features.title, features.description, features.item, features.exclusion)
    return sum(map(len, own)) + len(features.query)


def _largest_piece(texts: Ragged, count: int) -> tuple[int, int]:
    """Padded tokens and blocks of the largest of `count` pieces of the distinct texts."""
    lengths = np.asarray(texts.lengths)[distinct_texts(texts).rows]
    return max(_padded(piece) for piece in np.array_split(lengths, count))


def _padded(lengths: IntArray) -> tuple[int, int]:
    blocks = length_blocks(lengths)
    return sum(len(rows) * int(lengths[rows].max()) for rows in blocks), len(blocks)


def loads_from_settings(config: Config) -> StepLoads:
    """Upper limits without any data: every text as long as a query may be, none twice.

    Codes are drawn uniformly from as many as the bundled table has, so that n draws from N codes
    give N (1 - (1 - 1/N)^n) different ones.
    """
    num_codes = config.data.max_codes or len(bundled_titles())
    limit = config.data_loader.tokenization.max_tokens.description
    per_anchor = texts_per_anchor(config)

    def load(batch_size: int, anchors: int) -> StepLoad:
        draws = anchors * (2 + config.data_loader.num_negatives + per_anchor)
        codes = math.ceil(num_codes * -math.expm1(draws * math.log1p(-1 / num_codes)))
        tokens = batch_size * per_anchor * limit
        blocks = -(-tokens // MAX_BLOCK_TOKENS)
        return StepLoad(batch_size, anchors, anchors * per_anchor, codes, tokens, blocks)

    return StepLoads(
        of=load,
        max_batch_size=num_codes,
        num_codes=num_codes,
        num_texts=TEXTS_PER_CODE * num_codes,
        source=(
            f"upper limits from the settings, as no data are prepared: {num_codes:,} codes, "
            f"{per_anchor} texts per anchor (data_loader.queries.per_anchor) of {limit} tokens "
            "(data_loader.tokenization.max_tokens.description)"
        ),
    )
