"""From the description of a business to the nearest codes of a run's export."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from naics_job.config.schema import Config
from naics_job.data.tokens import Ragged
from naics_job.errors import DataError
from naics_job.export.embeddings import FILE as EMBEDDINGS
from naics_job.export.embeddings import EmbeddingTable, read_embeddings
from naics_job.export.model import TOKENIZER, LoadedModel, load_model
from naics_job.geometry.lorentz import pairwise_distance
from naics_job.storage.files import exists, join, local_path, read_bytes

log = logging.getLogger(__name__)
QUERY_CHANNELS = ("title", "examples")  # a query reads like a title and like an index item
LEAF_LEVEL = 6


@dataclass(frozen=True)
class Hit:
    """One answer: a code and its geodesic distance from the query."""

    code: str
    title: str
    distance: float


class SearchIndex:
    """The embeddings and the model of one export, kept in memory for many queries."""

    def __init__(self, folder: str, cache_dir: Path) -> None:
        self.table: EmbeddingTable = read_embeddings(join(folder, EMBEDDINGS))
        self.model: LoadedModel = load_model(join(folder, "model"), cache_dir)
        self.tokenizer = Tokenizer.from_str(
            read_bytes(join(folder, "model", TOKENIZER)).decode("utf-8")
        )
        self.tokenizer.no_padding()
        self.points = torch.from_numpy(self.table.points.copy())

    @torch.no_grad()
    def embed(self, queries: list[str]) -> torch.Tensor:
        """Points `[query, dim + 1]` of texts read as title and as example of a code."""
        tokens = {channel: self._tokens(queries, channel) for channel in QUERY_CHANNELS}
        features, present = self.model.encoder(tokens)
        points: torch.Tensor = self.model.embedder(features, present).points
        return points

    def search(self, query: str, num_results: int, level: int | None = LEAF_LEVEL) -> list[Hit]:
        """The `num_results` codes of `level` digits (None: of any) nearest to `query`."""
        points = self.embed([query])
        distance = pairwise_distance(points, self.points, self.table.curvature)[0].numpy()
        if level is not None:
            distance = np.where(self.table.levels == level, distance, np.inf)
        order = np.argsort(distance, kind="stable")[:num_results]
        return [
            Hit(self.table.codes[row], self.table.titles[row], float(distance[row]))
            for row in order
            if np.isfinite(distance[row])
        ]

    def _tokens(self, texts: list[str], channel: str) -> Ragged:
        self.tokenizer.enable_truncation(self.model.max_tokens[channel])
        rows = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        ids = np.concatenate([np.asarray(row, dtype=np.int32) for row in rows])
        return Ragged(ids, np.array([len(row) for row in rows], dtype=np.int64))


def search(config: Config, query: str, num_results: int, level: int | None = 6) -> list[Hit]:
    """Answer one query from the newest export of `config`'s experiment.

    Raises:
        DataError: the query is empty, or the experiment has no export.
    """
    if not query.strip():
        raise DataError("the query is empty", 'say what the business does: "organic soybean farm"')
    folder = join(config.dirs.output_dir, config.experiment_name)
    if not exists(join(folder, EMBEDDINGS)):
        raise DataError(
            f"{folder} holds no embeddings",
            "train first, or name the run: experiment_name=NAME dirs.output_dir=FOLDER",
        )
    cache = local_path(config.dirs.data_dir) or Path.home() / ".cache" / "naics-job"
    return SearchIndex(folder, cache / "models").search(query, num_results, level)
