"""From descriptions of businesses to the codes of a run's export, and how sure they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from naics_job.config.schema import Config
from naics_job.data.tokens import Ragged
from naics_job.errors import DataError
from naics_job.export.embeddings import EXPORT_AGAIN, ITEMS, read_embeddings, read_items
from naics_job.export.embeddings import FILE as EMBEDDINGS
from naics_job.export.levels import LEAF_LEVEL, Levels, sure_line
from naics_job.export.model import checked, load_model
from naics_job.export.onnx_encoder import Array
from naics_job.export.ranking import CodeRanker, Ranked
from naics_job.export.text_rows import Answer
from naics_job.geometry.light import pairwise_distance
from naics_job.storage.files import cache_folder, exists, join


@dataclass(frozen=True)
class Hit:
    """One answer.

    Attributes:
        probability: that the text belongs to the code, or to one below it.
        distance: from the text to the code's point, geodesic.
        item: the index item below the code that is nearest to the text, None without any.
    """

    code: str
    title: str
    probability: float
    distance: float
    item: str | None


@dataclass(frozen=True)
class Found:
    """The answers to one query, and the line that says how sure they are."""

    hits: list[Hit]
    sure: str


class SearchIndex:
    """The codes, texts and model of one export, kept in memory for many queries.

    Args:
        folder: of the export, a path or URL.
        cache_dir: where the files of a remote export are kept.
        lexical: let shared words count too.
        num_threads: of the encoder; None: one per core.

    Raises:
        DataError: a file is missing or damaged, or the files do not belong together.
    """

    def __init__(
        self,
        folder: str,
        cache_dir: Path,
        lexical: bool = False,
        num_threads: int | None = None,
    ) -> None:
        self.model = load_model(folder, cache_dir, lexical, num_threads)
        settings = self.model.settings
        self.table = read_embeddings(str(checked(folder, EMBEDDINGS, settings, cache_dir)))
        items = read_items(str(checked(folder, ITEMS, settings, cache_dir)), settings.files[ITEMS])
        self.levels = Levels(self.table.levels)
        leaves = self.levels.leaves
        row_of = {self.table.codes[row]: number for number, row in enumerate(leaves)}
        try:
            item_leaf = np.array([row_of[code] for code in items.codes], dtype=np.int64)
        except KeyError as error:
            message = f"{folder} has texts of {error.args[0]}, which is none of its codes"
            raise DataError(message, EXPORT_AGAIN) from error
        self._item_texts = items.texts
        self.ranker = CodeRanker(
            self.table.points[leaves],
            items.points,
            item_leaf,
            self.table.curvature,
            settings.calibration,
        )

    def search(self, query: str, num_results: int, level: int | None = LEAF_LEVEL) -> Found:
        """The `num_results` likeliest codes of `level` digits; None: the nearest of any.

        Fewer when there are not as many.

        Raises:
            DataError: the query has no word.
        """
        tokens = self.model.tokenizer.asked([query])
        points, ranked = self._ranked(tokens, [query])
        probability = self.levels.probabilities(ranked.probability)[0]
        distance = pairwise_distance(points, self.table.points, self.table.curvature)[0]
        order = self._order(level, probability, distance, ranked.score[0])[:num_results]
        hits = [
            Hit(
                self.table.codes[row],
                self.table.titles[row],
                float(probability[row]),
                float(distance[row]),
                self._reason(points[0], row),
            )
            for row in order.tolist()
        ]
        line = sure_line(self.table.codes, probability, self.levels.path(probability))
        return Found(hits, line)

    def answers(self, texts: list[str], num_results: int) -> list[Answer]:
        """The columns of `columns` for each of some texts, or why there is no answer."""
        tokens = self.model.tokenizer(texts)
        asked = np.flatnonzero(tokens.lengths > 0)
        if not len(asked):
            return ["the text has no word"] * len(texts)
        some = Ragged(tokens.ids, tokens.lengths[asked])  # the others have no tokens
        _, ranked = self._ranked(some, [texts[row] for row in asked])
        answers: list[Answer] = ["the text has no word"] * len(texts)
        every = self.levels.probabilities(ranked.probability)
        order = np.argsort(-ranked.score, axis=1, kind="stable")[:, :num_results]
        for number, row in enumerate(asked):
            answers[row] = self._columns(order[number], every[number])
        return answers

    def _ranked(self, tokens: Ragged, texts: Sequence[str]) -> tuple[Array, Ranked]:
        placed = self.model.place(tokens)
        words = self.model.words
        shared = None if words is None else words.scores(texts)
        return placed.points, self.ranker.rank(placed.points, placed.long, shared)

    def _order(self, level: int | None, probability: Array, distance: Array, score: Array) -> Array:
        """Rows of the table, the best first."""
        if level is None:
            return np.argsort(distance, kind="stable")
        if level == LEAF_LEVEL:  # by score: probabilities of the unlikely are all 0
            return self.levels.leaves[np.argsort(-score, kind="stable")]
        rows = np.flatnonzero(self.levels.levels == level)
        return rows[np.argsort(-probability[rows], kind="stable")]

    def _reason(self, point: Array, row: int) -> str | None:
        first, end = self.levels.first_leaf[row], self.levels.end_leaf[row]
        item = self.ranker.nearest_item(point, int(first), int(end))
        return None if item is None else self._item_texts[item].as_py()

    def _columns(self, leaves: Array, probability: Array) -> dict[str, Any]:
        """One row of answers; those that there are not enough codes for stay empty."""
        found: dict[str, Any] = {}
        for rank, row in enumerate(self.levels.leaves[leaves].tolist(), start=1):
            found[f"rank{rank}_code"] = self.table.codes[row]
            found[f"rank{rank}_title"] = self.table.titles[row]
            found[f"rank{rank}_probability"] = float(probability[row])
        if (sure := self.levels.sure(probability)) is not None:
            found |= {"sure_code": self.table.codes[sure]}
            found |= {"sure_probability": float(probability[sure])}
        return found


def columns(num_results: int) -> pa.Schema:
    """What is said of each text of a file: the likeliest codes, and the deepest that is sure."""
    fields = [
        pa.field(f"rank{rank}_{name}", kind)
        for rank in range(1, num_results + 1)
        for name, kind in (
            ("code", pa.string()),
            ("title", pa.string()),
            ("probability", pa.float64()),
        )
    ]
    sure = [pa.field("sure_code", pa.string()), pa.field("sure_probability", pa.float64())]
    return pa.schema([*fields, *sure])


def open_index(
    config: Config, lexical: bool = False, num_threads: int | None = None
) -> SearchIndex:
    """The newest export of `config`'s experiment; see `SearchIndex`.

    Raises:
        DataError: there is none, or it is damaged.
    """
    folder = join(config.dirs.output_dir, config.experiment_name)
    if not exists(join(folder, EMBEDDINGS)):
        raise DataError(
            f"{folder} holds no embeddings",
            "train first, or name the run: experiment_name=NAME dirs.output_dir=FOLDER",
        )
    cache = cache_folder(config.dirs.data_dir) / "models"
    return SearchIndex(folder, cache, lexical, num_threads)
