"""From the description of a business to the nearest codes of a run's export."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from naics_job.config.schema import Config
from naics_job.data.query_tokens import QueryTokenizer
from naics_job.data.tokens import Ragged
from naics_job.errors import DataError
from naics_job.export.embeddings import FILE as EMBEDDINGS
from naics_job.export.embeddings import read_embeddings
from naics_job.export.model import load_model
from naics_job.geometry.lorentz import pairwise_distance
from naics_job.model.embedder import NaicsEmbedder
from naics_job.storage.files import cache_folder, exists, join

LEAF_LEVEL = 6
EXAMPLE = 'say what the business does: "organic soybean farm"'

Encode = Callable[[Mapping[str, Ragged]], tuple[Tensor, Tensor]]  # features, present


@dataclass(frozen=True)
class Hit:
    """One answer: a code and its geodesic distance from the query."""

    code: str
    title: str
    distance: float


@torch.no_grad()
def embed_queries(
    encode: Encode, embedder: NaicsEmbedder, tokenizer: QueryTokenizer, texts: Sequence[str]
) -> Tensor:
    """Points `[text, dim + 1]` of free texts; the one way they are embedded.

    Args:
        encode: a `ChannelEncoder` or `LightEncoder`.
        embedder: in evaluation mode.
        tokenizer: knows as which channels a text is read.
        texts: each with at least one word.

    Raises:
        DataError: a text has none.
    """
    tokens = tokenizer(texts)
    for ragged in tokens.values():
        for text, length in zip(texts, ragged.lengths, strict=True):
            if length == 0:
                raise DataError(f"the query {text!r} has no word", EXAMPLE)
    features, present = encode(tokens)
    points: Tensor = embedder(features, present).points
    return points


class SearchIndex:
    """The embeddings and the model of one export, kept in memory for many queries."""

    def __init__(self, folder: str, cache_dir: Path) -> None:
        self.table = read_embeddings(join(folder, EMBEDDINGS))
        self.model = load_model(join(folder, "model"), cache_dir)
        self.points = torch.from_numpy(self.table.points.copy())

    def search(self, query: str, num_results: int, level: int | None = LEAF_LEVEL) -> list[Hit]:
        """The `num_results` codes of `level` digits (None: of any) nearest to `query`.

        Fewer when there are not as many.

        Raises:
            DataError: the query has no word.
        """
        model = self.model
        point = embed_queries(model.encoder, model.embedder, model.tokenizer, [query])
        distance = pairwise_distance(point, self.points, self.table.curvature)[0].numpy()
        rows = np.arange(len(distance))
        if level is not None:
            rows = rows[self.table.levels == level]
        nearest = rows[np.argsort(distance[rows], kind="stable")][:num_results]
        return [
            Hit(self.table.codes[row], self.table.titles[row], float(distance[row]))
            for row in nearest
        ]


def search(config: Config, query: str, num_results: int, level: int | None = 6) -> list[Hit]:
    """Answer one query from the newest export of `config`'s experiment.

    Raises:
        DataError: the query is empty, or the experiment has no export.
    """
    if not query.strip():
        raise DataError("the query is empty", EXAMPLE)
    folder = join(config.dirs.output_dir, config.experiment_name)
    if not exists(join(folder, EMBEDDINGS)):
        raise DataError(
            f"{folder} holds no embeddings",
            "train first, or name the run: experiment_name=NAME dirs.output_dir=FOLDER",
        )
    cache = cache_folder(config.dirs.data_dir) / "models"
    with one_thread():
        return SearchIndex(folder, cache).search(query, num_results, level)


@contextmanager
def one_thread() -> Iterator[None]:
    """A few tokens are encoded in 30 ms; threads that wait for each other can take a second."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
