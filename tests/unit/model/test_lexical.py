"""Words: TF-IDF by hand, what the projection keeps, counts of codes."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.feature_extraction.text import TfidfTransformer
from torch import Tensor

from naics_job.data.segments import Segments
from naics_job.data.tokens import Ragged
from naics_job.model.lexical import (
    CodeWords,
    LexicalProjection,
    counted,
    counts_by_code,
    matrix_entries,
)

VOCABULARY = 40


def documents(rows: int = 12, seed: int = 0) -> sp.csr_matrix:
    """Token counts; the last five tokens are in no document."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.4, (rows, VOCABULARY)).astype(np.float32)
    counts[:, 3] += 1  # in every document
    counts[:, -5:] = 0
    return sp.csr_matrix(counts)


def tfidf(counts: sp.csr_matrix, known: sp.csr_matrix) -> np.ndarray:
    """Sublinear TF-IDF rows of length 1, the frequencies of `known`, by scikit-learn."""
    transformer = TfidfTransformer(sublinear_tf=True, smooth_idf=True).fit(known)
    used = np.asarray((known > 0).sum(axis=0)).ravel() > 0
    shown = counts.multiply(used[None]).tocsr()  # words that no code has do not count
    shown.eliminate_zeros()
    return transformer.transform(shown.astype(np.float64)).toarray()


def project(lexical: LexicalProjection, counts: sp.csr_matrix) -> Tensor:
    return lexical(*matrix_entries(counts, torch.device("cpu")), counts.shape[0])


def fitted(dim: int, known: sp.csr_matrix) -> LexicalProjection:
    lexical = LexicalProjection(VOCABULARY, dim)
    lexical.fit(known)
    return lexical


def test_forward_is_the_tfidf_of_scikit_learn_times_the_table() -> None:
    known, other = documents(), documents(7, seed=1)
    other = other.tolil()
    other[2, -1] = 3  # an unknown word
    other[3] = 0
    other = other.tocsr()
    lexical = fitted(5, known)
    for counts in (known, other):
        expected = tfidf(counts, known) @ lexical.table.double().numpy()
        np.testing.assert_allclose(project(lexical, counts), expected, atol=1e-6)
    assert not project(lexical, other)[3].any()


def test_a_row_by_hand() -> None:
    known = sp.csr_matrix(np.array([[2, 0, 1], [0, 1, 1], [0, 3, 1]], dtype=np.float32))
    lexical = LexicalProjection(3, 2)
    lexical.fit(known)
    idf = [math.log(4 / 2) + 1, math.log(4 / 3) + 1, 1.0]
    torch.testing.assert_close(lexical.idf, torch.tensor(idf))
    weight = torch.tensor([(1 + math.log(2)) * idf[0], 0.0, idf[2]])
    expected = weight / weight.norm() @ lexical.table.float()
    torch.testing.assert_close(project(lexical, known)[0], expected, rtol=1e-4, atol=1e-5)


def test_enough_directions_keep_all_inner_products_of_the_codes() -> None:
    """One less than there are codes: the codes below have rank 11."""
    known = documents(11)
    known = sp.vstack([known, known[:1]]).tocsr()  # 12 documents of rank 11
    vectors = tfidf(known, known)
    for dim in (11, 30):  # what is left over is 0
        found = project(fitted(dim, known), known)
        np.testing.assert_allclose(found @ found.T, vectors @ vectors.T, atol=2e-3)  # float16
    few = project(fitted(3, known), known)
    lost = vectors @ vectors.T - (few @ few.T).numpy()
    values = np.linalg.svd(vectors, compute_uv=False)
    assert np.linalg.norm(lost) == pytest.approx(np.sqrt((values[3:] ** 4).sum()), rel=1e-2)


def test_directions_are_orthonormal_and_do_not_depend_on_chance() -> None:
    one, other = fitted(6, documents()), fitted(6, documents())
    assert torch.equal(one.table, other.table)
    table = one.table.float()
    torch.testing.assert_close(table.T @ table, torch.eye(6), rtol=0, atol=2e-3)
    assert not table[-5:].any()
    largest = table[table.abs().argmax(dim=0), torch.arange(6)]
    assert bool((largest > 0).all())


def test_length_is_one_at_most_and_one_document_gives_nothing() -> None:
    lexical = fitted(6, documents())
    assert project(lexical, documents(50, seed=2)).norm(dim=1).max() <= 1.001
    assert not fitted(4, documents(1)).table.any()
    assert {name for name, _ in lexical.named_parameters()} == set()
    assert set(lexical.state_dict()) == {"table", "idf"}


def test_no_dimensions_give_empty_vectors() -> None:
    assert project(LexicalProjection(VOCABULARY, 0), documents()).shape == (12, 0)


def test_counted() -> None:
    ids = torch.tensor([5, 2, 5, 5, 2])
    rows = torch.tensor([0, 0, 0, 2, 2])
    tokens, counts, owner = counted(ids, rows, 7)
    found = sorted(zip(owner.tolist(), tokens.tolist(), counts.tolist(), strict=True))
    assert found == [(0, 2, 1), (0, 5, 2), (2, 2, 1), (2, 5, 1)]
    none = torch.empty(0, dtype=torch.long)
    assert all(len(part) == 0 for part in counted(none, none, 7))


def segments(texts: list[list[list[int]]]) -> Segments:
    flat = [segment for code in texts for segment in code]
    return Segments(
        ids=np.array([token for segment in flat for token in segment], dtype=np.int32),
        token_start=np.cumsum([0, *map(len, flat)]),
        segment_start=np.cumsum([0, *map(len, texts)]),
    )


CHANNELS = {
    "title": segments([[[1, 2]], [[3]], [[1]]]),
    "description": segments([[[2, 2], [4]], [], [[5]]]),
    "examples": segments([[[6], [6, 7]], [], [[1, 8], [9, 9]]]),
    "excluded": segments([[[0]], [], []]),
}


def counts_of(words: CodeWords, *arguments: np.ndarray) -> list[dict[int, int]]:
    table = words.counts(*arguments).toarray()
    return [{int(t): int(row[t]) for t in np.flatnonzero(row)} for row in table]


def everything() -> CodeWords:
    return CodeWords(CHANNELS, 10, np.ones(4, dtype=bool), np.ones((3, 2), dtype=bool))


def test_counts_of_codes_by_hand() -> None:
    """Title, description and items; exclusions are no words of a code."""
    found = counts_of(everything(), np.array([2, 0, 1, 2]))
    last = {1: 2, 5: 1, 8: 1, 9: 2}
    assert found == [last, {1: 1, 2: 3, 4: 1, 6: 2, 7: 1}, {3: 1}, last]


def test_hidden_and_masked_texts_are_not_counted() -> None:
    hidden = np.array([True, False, False, True])
    found = counts_of(everything(), np.arange(3), hidden)
    assert found == [{1: 1, 2: 3, 4: 1, 6: 1, 7: 1}, {3: 1}, {1: 2, 5: 1, 8: 1}]
    own = np.array([[True, False], [False, True], [False, True]])
    masked = CodeWords(CHANNELS, 10, np.array([False, True, True, True]), own)
    found = counts_of(masked, np.arange(3), hidden)
    assert found == [{1: 1, 2: 1, 6: 1, 7: 1}, {}, {1: 1, 5: 1, 8: 1}]


def test_entries_of_a_matrix_are_those_that_counting_gives() -> None:
    counts = everything().counts(np.arange(3))
    tokens, values, rows = matrix_entries(counts, torch.device("cpu"))
    ids = torch.repeat_interleave(tokens, values.long())
    again = counted(ids, torch.repeat_interleave(rows, values.long()), 10)
    lexical = LexicalProjection(10, 4)
    lexical.fit(counts)
    expected = lexical(tokens, values, rows, 3)
    torch.testing.assert_close(lexical(*again, 3), expected)


def test_counts_of_texts_add_up_by_code() -> None:
    texts = Ragged(np.array([1, 1, 2, 3, 2], dtype=np.int32), np.array([3, 0, 2]))
    counts = counts_by_code(texts, np.array([2, 0, 2]), num_codes=4, vocabulary_size=5)
    assert counts.toarray().tolist() == [[0] * 5, [0] * 5, [0, 2, 2, 1, 0], [0] * 5]
