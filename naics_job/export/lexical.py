"""`model.lexical` without torch: token ids in, projected TF-IDF vectors out."""

from pathlib import Path

import numpy as np
import scipy.sparse as sp
from safetensors import SafetensorError
from safetensors.numpy import load_file

from naics_job.data.tokens import Ragged
from naics_job.errors import DataError
from naics_job.export.onnx_encoder import EXPORT_AGAIN, Array

SMALLEST_LENGTH = 1e-12
TABLE, IDF = "table", "idf"


class WordProjection:
    """Reads a text as the lexical part of the trained network does.

    Args:
        table: `[vocabulary, lexical_dim]` float16.
        idf: `[vocabulary]` float32, 0 for a token that no code has.
    """

    def __init__(self, table: Array, idf: Array) -> None:
        self._table, self._idf = table, idf

    @classmethod
    def read(cls, path: Path) -> "WordProjection":
        """From the file of an export.

        Raises:
            DataError: it is damaged.
        """
        try:
            arrays = load_file(path)
            return cls(arrays[TABLE], arrays[IDF])
        except (SafetensorError, KeyError) as error:
            raise DataError(f"{path} holds no words: {error}", EXPORT_AGAIN) from error

    def __call__(self, tokens: Ragged) -> Array:
        """Vectors `[text, lexical_dim]` float32 of length 1 and less; 0 without a known word."""
        num_texts, size = len(tokens.lengths), len(self._idf)
        rows = np.repeat(np.arange(num_texts), tokens.lengths)
        keys, counts = np.unique(rows * size + tokens.ids, return_counts=True)
        token, row = keys % size, keys // size
        weight = (1 + np.log(counts)) * self._idf[token]  # [entry]
        length = np.sqrt(np.bincount(row, np.square(weight), minlength=num_texts))
        weight = (weight / np.maximum(length, SMALLEST_LENGTH)[row]).astype(np.float32)
        used, column = np.unique(token, return_inverse=True)
        matrix = sp.csr_matrix((weight, (row, column)), shape=(num_texts, len(used)))
        vectors: Array = matrix @ self._table[used].astype(np.float32)
        return vectors
