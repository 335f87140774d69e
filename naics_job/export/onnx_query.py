"""Runs the head that `query_graph` wrote: what is read of queries in, points out, no torch."""

from pathlib import Path

import numpy as np

from naics_job.errors import DataError
from naics_job.export.onnx_encoder import EXPORT_AGAIN, REFUSED, Array, open_session, reason_of

INPUTS, OUTPUT = ("features", "words", "long"), "points"


class QueryHead:
    """Places queries on the hyperboloid.

    Args:
        source: the file, or its content.
        num_threads: of the computation; None: one per core.

    Raises:
        DataError: the file is missing, damaged, or another kind of graph.
    """

    def __init__(self, source: Path | bytes, num_threads: int | None = None) -> None:
        self._name = str(source) if isinstance(source, Path) else "the head"
        self._session = open_session(source, self._name, num_threads)
        inputs = tuple(each.name for each in self._session.get_inputs())
        outputs = [each.name for each in self._session.get_outputs()]
        if inputs != INPUTS or outputs != [OUTPUT]:
            message = f"{self._name} is a graph, but no exported head of queries"
            raise DataError(message, EXPORT_AGAIN)

    def __call__(self, features: Array, words: Array, long: Array) -> Array:
        """Points `[query, dim + 1]` float32.

        Args:
            features: `[query, hidden]` of length 1.
            words: projected TF-IDF vectors `[query, lexical_dim]`.
            long: whether each is read as a description `[query]` bool.

        Raises:
            DataError: the arrays do not fit the graph.
        """
        arrays = (features.astype(np.float32), words.astype(np.float32), long.astype(bool))
        try:
            (points,) = self._session.run([OUTPUT], dict(zip(INPUTS, arrays, strict=True)))
        except REFUSED as error:
            message = f"{self._name} does not fit the files beside it: {reason_of(error)}"
            raise DataError(message, EXPORT_AGAIN) from error
        found: Array = points
        return found
