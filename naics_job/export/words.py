"""Words and pairs of words that texts share with the codes: what `search --lexical` adds.

The same as `evaluation.baselines.tfidf_scores`, kept in a file so that a search needs neither the
texts of the codes nor scikit-learn.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from naics_job.errors import DataError
from naics_job.export.onnx_encoder import EXPORT_AGAIN, Array

WORD = re.compile(r"(?u)\b\w\w+\b")
BETWEEN = "\n"  # of terms in the file; none holds it


@dataclass(frozen=True)
class WordIndex:
    """TF-IDF vectors of the texts of the codes.

    Attributes:
        column: of each word and pair of words.
        stop_words: left out before words are paired.
        idf: `[term]` float64.
        codes: `[code, term]` float64, rows of length 1.
    """

    column: dict[str, int]
    stop_words: frozenset[str]
    idf: Array
    codes: sp.csr_matrix

    @classmethod
    def of(cls, documents: Sequence[str]) -> "WordIndex":
        """Of everything that is written about each code."""
        from sklearn.feature_extraction.text import TfidfVectorizer  # a search has no need of it

        vectorizer = TfidfVectorizer(
            ngram_range=(1, 2), sublinear_tf=True, stop_words="english", dtype=np.float64
        )
        codes = vectorizer.fit_transform(documents).tocsr()
        column = {str(term): int(number) for term, number in vectorizer.vocabulary_.items()}
        stop_words = frozenset(vectorizer.get_stop_words())
        return cls(column, stop_words, vectorizer.idf_, codes)

    @classmethod
    def read(cls, path: Path) -> "WordIndex":
        """What `content` has made.

        Raises:
            DataError: the file is damaged.
        """
        try:
            arrays = load_file(path)
            terms, stop_words = (_split(arrays[name]) for name in ("terms", "stop_words"))
            parts = (arrays["data"], arrays["indices"], arrays["indptr"])
            shape = (len(parts[2]) - 1, len(terms))
            column = {term: number for number, term in enumerate(terms)}
            codes = sp.csr_matrix(parts, shape=shape)
            return cls(column, frozenset(stop_words), arrays["idf"], codes)
        except (SafetensorError, KeyError, ValueError) as error:
            raise DataError(f"{path} holds no words: {error}", EXPORT_AGAIN) from error

    def content(self) -> bytes:
        """A file for `read`."""
        terms = sorted(self.column, key=self.column.__getitem__)
        return save(
            {
                "terms": _bytes(terms),
                "stop_words": _bytes(sorted(self.stop_words)),
                "idf": self.idf,
                "data": self.codes.data,
                "indices": self.codes.indices.astype(np.int32),
                "indptr": self.codes.indptr.astype(np.int32),
            }
        )

    def scores(self, texts: Sequence[str]) -> Array:
        """Cosines `[text, code]` float32; 0 for a text without a known word."""
        rows, columns = [], []
        for row, text in enumerate(texts):
            found = [self.column[term] for term in self._terms(text) if term in self.column]
            rows += [row] * len(found)
            columns += found
        counts = sp.csr_matrix(
            (np.ones(len(rows)), (rows, columns)), shape=(len(texts), len(self.idf))
        )
        counts.sum_duplicates()
        counts.data = (1 + np.log(counts.data)) * self.idf[counts.indices]
        length = np.sqrt(np.asarray(counts.multiply(counts).sum(axis=1))).ravel()
        counts = sp.diags_array(1 / np.where(length > 0, length, 1.0)) @ counts
        cosines: Array = (counts @ self.codes.T).toarray().astype(np.float32)
        return cosines

    def _terms(self, text: str) -> list[str]:
        words = [word for word in WORD.findall(text.lower()) if word not in self.stop_words]
        return [*words, *map(" ".join, pairwise(words))]


def _bytes(terms: Sequence[str]) -> Array:
    return np.frombuffer(BETWEEN.join(terms).encode(), dtype=np.uint8)


def _split(values: Array) -> list[str]:
    return values.tobytes().decode().split(BETWEEN)
