"""Text search scores of a model and of its frozen encoder."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from naics_job.errors import DataError
from naics_job.training.scoring import asked_tokens, read_texts, search_scores

ASKED = 6


@pytest.fixture
def asked(job: Any) -> Iterator[Any]:
    """The job with the titles of some codes, all different, as its held-out items."""
    data = job.inputs.data
    leaves = data.taxonomy.six_digit()[:ASKED].tolist()
    assert not data.queries
    data.queries.extend((leaf, data.taxonomy.titles[leaf]) for leaf in leaves)
    yield job
    data.queries.clear()


def placed(job: Any, texts: list[str]) -> torch.Tensor:
    job.module.eval()
    with torch.no_grad():
        points: torch.Tensor = job.module.embedder(read_texts(job, asked_tokens(job, texts))).points
    return points


def codes(job: Any, texts: list[str]) -> Any:
    """Codes of which the first leaves lie where the trained model puts `texts`."""
    taxonomy = job.inputs.data.taxonomy
    points = placed(job, ["Hay"]).repeat(len(taxonomy), 1)
    points[taxonomy.six_digit()[: len(texts)]] = placed(job, texts)
    return SimpleNamespace(points=points, curvature=1.0)


def test_each_side_is_scored_by_its_own_embedding(asked: Any) -> None:
    texts = [text for _, text in asked.inputs.data.queries]
    trained, frozen = search_scores(asked, codes(asked, texts))
    assert trained == {"top@1": 1.0, "top@5": 1.0, "mrr": 1.0, "num_queries": float(ASKED)}
    swapped = [texts[1], texts[0], *texts[2:]]
    again = search_scores(asked, codes(asked, swapped))
    assert again[0]["top@1"] == pytest.approx((ASKED - 2) / ASKED)
    assert again[1] == frozen  # the frozen encoder has its own features of the codes
    assert frozen["num_queries"] == ASKED
    assert 0 < frozen["mrr"] <= 1


def test_the_module_keeps_its_mode_and_dropout_stays_off(asked: Any) -> None:
    encoded = codes(asked, [text for _, text in asked.inputs.data.queries])
    asked.module.train()
    assert asked.module.embedder.channel_dropout > 0
    assert all(search_scores(asked, encoded)[0]["top@1"] == 1 for _ in range(3))
    assert asked.module.training
    asked.module.eval()


def test_no_queries_no_scores(job: Any) -> None:
    assert search_scores(job, codes(job, ["Hay"])) == ({}, {})


def test_a_text_is_read_by_its_length(job: Any) -> None:
    read = read_texts(job, asked_tokens(job, ["Corn", " ".join(["Corn"] * 30)]))
    assert read.long.tolist() == [False, True]
    assert read.depth.tolist() == [0, 0]
    np.testing.assert_allclose(read.text.norm(dim=1), 1, atol=1e-5)
    frozen = read_texts(job, asked_tokens(job, ["Corn"]), frozen=True)
    assert (frozen.text[0] - read.text[0]).abs().max() > 1e-3
    with pytest.raises(DataError, match="has no word"):
        asked_tokens(job, ["Corn", " "])
