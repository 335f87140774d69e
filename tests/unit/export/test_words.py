"""Words without torch and without scikit-learn, held to those with them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from naics_job.data.tokens import Ragged
from naics_job.errors import DataError
from naics_job.evaluation.baselines import tfidf_scores
from naics_job.export.lexical import WordProjection
from naics_job.export.words import WordIndex
from naics_job.model.lexical import LexicalProjection, counted
from naics_job.model.tensor_file import write_tensors

DOCUMENTS = ["Corn farming\nField corn, growing", "The wheat farms of the plains", "Café owners"]
TEXTS = ["corn", "the CORN corn farming of wheat", "", "Café 24", "nothing known", "field of corn"]


@pytest.mark.parametrize("dim", [8, 0])
def test_the_projection_is_that_of_the_network(tmp_path: Path, dim: int) -> None:
    torch.manual_seed(0)
    network = LexicalProjection(50, dim)
    network.table.copy_(torch.randn(50, dim))
    network.idf.copy_(torch.rand(50) * (torch.rand(50) > 0.3))
    lengths = np.array([5, 0, 1, 30, 2])
    ids = np.random.default_rng(0).integers(0, 50, lengths.sum()).astype(np.int32)
    ids[-2:] = int((network.idf == 0).nonzero()[0, 0])  # a text of unknown words
    rows = torch.from_numpy(np.repeat(np.arange(5), lengths))
    expected = network(*counted(torch.from_numpy(ids).long(), rows, 50), 5)
    write_tensors(str(tmp_path / "words"), {"table": network.table, "idf": network.idf})
    found = WordProjection.read(tmp_path / "words")(Ragged(ids, lengths))
    assert found.shape == (5, dim)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    assert not found[[1, 4]].any()


def test_shared_words_score_as_the_baseline_does(tmp_path: Path) -> None:
    expected = next(tfidf_scores(TEXTS, DOCUMENTS))
    made = WordIndex.of(DOCUMENTS)
    (tmp_path / "words").write_bytes(made.content())
    for index in (made, WordIndex.read(tmp_path / "words")):
        np.testing.assert_allclose(index.scores(TEXTS), expected, atol=1e-6)
    assert expected[0, 0] > 0.3
    assert not expected[[2, 4]].any()


def test_damaged_words_are_refused(tmp_path: Path) -> None:
    (tmp_path / "words").write_bytes(b"nothing")
    for reader in (WordIndex.read, WordProjection.read):
        with pytest.raises(DataError, match="holds no words"):
            reader(tmp_path / "words")
