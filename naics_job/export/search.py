"""From the description of a business to the nearest codes of a run's export."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from naics_job.config.schema import Config
from naics_job.data.query_tokens import EXAMPLE
from naics_job.errors import DataError
from naics_job.export.embeddings import FILE as EMBEDDINGS
from naics_job.export.embeddings import read_embeddings
from naics_job.export.model import load_model
from naics_job.geometry.light import pairwise_distance
from naics_job.storage.files import cache_folder, exists, join

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
        self.table = read_embeddings(join(folder, EMBEDDINGS))
        self.model = load_model(join(folder, "model"), cache_dir)

    def search(self, query: str, num_results: int, level: int | None = LEAF_LEVEL) -> list[Hit]:
        """The `num_results` codes of `level` digits (None: of any) nearest to `query`.

        Fewer when there are not as many.

        Raises:
            DataError: the query has no word.
        """
        model = self.model
        point = model.embed([query])
        distance = pairwise_distance(point, self.table.points, self.table.curvature)[0]
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
    return SearchIndex(folder, cache).search(query, num_results, level)
