"""What `tools investigate` looks at: a run's embedding, and what is known about its codes."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from naics_job.cli.frozen_features import code_directions, newest_features
from naics_job.cli.visualize import embeddings_url, table_with_taxonomy
from naics_job.config.load import config_hash
from naics_job.config.schema import Config
from naics_job.data.contracts import CHANNELS
from naics_job.data.prepare import load_dataset
from naics_job.data.splits import split_families
from naics_job.errors import DataError
from naics_job.evaluation.breakdown import BLOCK_ROWS, Pairs, all_pairs
from naics_job.evaluation.distances import CosineDistances, LorentzDistances
from naics_job.evaluation.parents import NearestParents, nearest_parents
from naics_job.evaluation.retrieval import QueryScores, score_queries
from naics_job.storage.files import join
from naics_job.storage.node_cache import NodeCache
from naics_job.taxonomy.tree import BoolArray, IntArray, Taxonomy
from naics_job.training.past_run import read_record

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Frozen:
    """How the untrained encoder does: cosine of what codes are by their words."""

    parents: NearestParents
    scores: QueryScores


@dataclass(frozen=True)
class Evidence:
    """Everything the findings are computed from; None where it could not be had."""

    run_id: str
    taxonomy: Taxonomy
    pairs: Pairs
    scores: QueryScores  # of every code
    parents: NearestParents
    train: IntArray  # positions of the codes that were trained on
    heldout: IntArray  # positions of the test split
    present: BoolArray | None  # [code, channel]
    frozen: Frozen | None
    notes: list[str]  # what could not be had, and why

    @property
    def everyone(self) -> BoolArray:
        """`[code]`, all true."""
        return np.ones(len(self.taxonomy), dtype=np.bool_)

    @property
    def is_heldout(self) -> BoolArray:
        """`[code]`."""
        return self._among(self.heldout)

    @property
    def is_trained(self) -> BoolArray:
        """`[code]`."""
        return self._among(self.train)

    def _among(self, positions: IntArray) -> BoolArray:
        mask = np.zeros(len(self.taxonomy), dtype=np.bool_)
        mask[positions] = True
        return mask


def gather(config: Config) -> Evidence:
    """Read the embedding of the experiment's last run and measure it.

    Raises:
        DataError: there is no embedding, or it is damaged.
    """
    table, taxonomy = table_with_taxonomy(embeddings_url(config))
    record, notes = read_record(config), []
    if record.get("run_id") != table.run_id:
        record = {}
        notes.append(f"the record of run {table.run_id} is gone")
    elif record.get("config_hash") != config_hash(config):
        notes.append(
            "the settings are not those of the run: which codes were held out may be wrong"
        )
    distances = LorentzDistances(torch.from_numpy(table.points.copy()), table.curvature)
    loader = config.data_loader
    splits = split_families(taxonomy, loader.val_split, loader.test_split, config.seed)
    return Evidence(
        run_id=table.run_id,
        taxonomy=taxonomy,
        pairs=all_pairs(distances, taxonomy),
        scores=score_queries(distances, taxonomy, np.arange(len(taxonomy)), BLOCK_ROWS),
        parents=nearest_parents(distances, taxonomy),
        train=splits.train,
        heldout=splits.test,
        present=_channels(config, taxonomy, notes),
        frozen=_frozen(config, taxonomy, record, notes),
        notes=notes,
    )


def _channels(config: Config, taxonomy: Taxonomy, notes: list[str]) -> BoolArray | None:
    try:
        data = load_dataset(config)
    except DataError as error:
        notes.append(f"channels were not looked at: {error.args[0]}")
        return None
    if data.taxonomy.codes != taxonomy.codes:
        notes.append("channels were not looked at: the prepared data have other codes")
        return None
    columns = [[bool(segments) for segments in data.texts[channel]] for channel in CHANNELS]
    return np.array(columns, dtype=np.bool_).T


def _frozen(
    config: Config, taxonomy: Taxonomy, record: dict[str, Any], notes: list[str]
) -> Frozen | None:
    base = str(record.get("base_model", {}).get("sha256", ""))
    folder = join(config.dirs.data_dir, "features")
    cache = NodeCache.of(config.data_loader.streaming)
    features = newest_features(folder, base, len(taxonomy), cache) if base else None
    if features is None:
        notes.append(f"the text alone was not looked at: no features of this run in {folder}")
        return None
    distances = CosineDistances(code_directions(features))
    scores = score_queries(distances, taxonomy, np.arange(len(taxonomy)), BLOCK_ROWS)
    return Frozen(nearest_parents(distances, taxonomy), scores)
