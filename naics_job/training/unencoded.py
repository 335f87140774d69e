"""What a run reads, but for the frozen pass over all texts: enough to count and to try steps."""

import torch
from torch import Tensor

from naics_job.config.schema import Config
from naics_job.data.prepare import NaicsData
from naics_job.data.query_pool import QueryPool
from naics_job.data.tokens import TokenStore
from naics_job.model.encoder import TextEncoder
from naics_job.model.features import FrozenFeatures, unit
from naics_job.model.weights import BaseWeights
from naics_job.training.build import (
    Inputs,
    build_queries,
    encodes_in_bfloat16,
    read_labelled_texts,
)


def unencoded_inputs(config: Config, data: NaicsData, base: BaseWeights) -> Inputs:
    """As `build.read_inputs`, with random features in place of those of the frozen encoder.

    A step on them takes the same memory and time; what it learns is worth nothing.

    Raises:
        DataError: `data.labelled_texts` or the token store is damaged.
    """
    labelled = read_labelled_texts(config, data)
    tokens = TokenStore.open_or_build(data, base.folder, config.data_loader)
    encoder = TextEncoder(base, config.model, bf16=encodes_in_bfloat16(config))
    queries = build_queries(data, base, tokens, labelled)
    features = random_features(tokens, queries, encoder.hidden_size)
    return Inputs(data, base, tokens, queries, features, encoder, labelled)


def random_features(tokens: TokenStore, queries: QueryPool, hidden_size: int) -> FrozenFeatures:
    """Features of length 1 for every text of every code."""
    generator = torch.Generator().manual_seed(0)

    def directions(rows: int) -> Tensor:
        return unit(torch.randn(rows, hidden_size, generator=generator))

    starts = [
        torch.from_numpy(tokens.segments[channel].segment_start.copy())
        for channel in ("examples", "excluded")
    ]
    return FrozenFeatures(
        title=directions(queries.num_titles),
        description=directions(queries.num_titles),
        item=directions(int(starts[0][-1])),
        item_start=starts[0],
        exclusion=directions(int(starts[1][-1])),
        exclusion_start=starts[1],
        query=directions(len(queries.asked_tokens.lengths)),
        labelled=directions(len(queries.labelled_tokens.lengths)),
        labelled_code=torch.from_numpy(queries.labelled_code.copy()),
    )
