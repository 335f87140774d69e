"""Search on the export of a tiny model."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from naics_job.config.load import load_config
from naics_job.errors import DataError
from naics_job.export.search import SearchIndex, columns, open_index
from naics_job.geometry.light import pairwise_distance

LEAVES = ["111111", "111112", "111113", "211111"]
HEAVY = {"torch", "transformers", "peft", "lightning", "openpyxl", "huggingface_hub", "pandas"}
HEAVY |= {"sklearn", "onnx"}


@pytest.fixture(scope="module")
def index(trained: Any) -> SearchIndex:
    return SearchIndex(trained.folder, Path("unused"), lexical=False, num_threads=1)


def test_answers_follow_the_distances_to_codes_and_items(trained: Any, index: SearchIndex) -> None:
    text = "w9 w30"
    points = trained.places.points.numpy(), trained.places.items.numpy()
    own, items = (pairwise_distance(trained.embed([text]), part, 1.0)[0] for part in points)
    score, nearest = {}, {}
    for code in LEAVES:
        row = trained.places.taxonomy.position(code)
        texts = [n for n, at in enumerate(trained.places.item_codes) if at == row]
        best = min(texts, key=lambda n: items[n], default=None)
        distance = float(own[row]) if best is None else float(items[best])
        score[code] = -(float(own[row]) + 0.5 * distance)
        nearest[code] = None if best is None else trained.places.item_texts[best]
    hits = index.search(text, 10).hits
    assert [hit.code for hit in hits] == sorted(LEAVES, key=lambda code: -score[code])
    assert {hit.code: hit.item for hit in hits} == nearest
    closest = min(float(own[trained.places.taxonomy.position(code)]) for code in LEAVES)
    logits = np.array([score[hit.code] for hit in hits]) * np.exp(3.0 + 0.1 * closest)
    expected = np.exp(logits - logits.max())
    found = [hit.probability for hit in hits]
    np.testing.assert_allclose(found, expected / expected.sum(), atol=2e-3)


@pytest.mark.parametrize("level", [2, 3, 4, 5])
def test_a_coarser_code_is_as_likely_as_the_codes_below(index: SearchIndex, level: int) -> None:
    leaves = index.search("w20", 10).hits
    hits = index.search("w20", 10, level).hits
    assert len(hits) == 2
    assert hits[0].probability >= hits[1].probability
    for hit in hits:
        below = sum(leaf.probability for leaf in leaves if leaf.code.startswith(hit.code))
        assert hit.probability == pytest.approx(below)
        assert hit.item in [leaf.item for leaf in leaves if leaf.code.startswith(hit.code)]


def test_any_level_is_by_distance(trained: Any, index: SearchIndex) -> None:
    hits = index.search("w9", 1000, level=None).hits
    assert {hit.code for hit in hits} == set(trained.places.taxonomy.codes)
    distances = [hit.distance for hit in hits]
    assert distances == sorted(distances)
    points = trained.places.points.numpy()
    nearest = pairwise_distance(trained.embed(["w9"]), points, 1.0).min()
    assert distances[0] == pytest.approx(nearest, abs=1e-3)
    assert distances[0] < distances[-1]


def test_the_number_of_answers(index: SearchIndex) -> None:
    assert {hit.code for hit in index.search("w9", 1000).hits} == set(LEAVES)
    assert len(index.search("w9", 2).hits) == 2
    assert index.search("w9", 2).sure.startswith(("sure: ", "not sure of a sector: "))


def test_a_long_query_counts_up_to_the_limit(index: SearchIndex) -> None:
    words = [f"w{number % 60}" for number in range(5000)]
    found = index.search(" ".join(words), 3)
    assert found == index.search(" ".join(words[:38]), 3)  # 40 tokens, two of them special
    assert found != index.search(" ".join(words[:17]), 3)


def test_words_count_when_asked(trained: Any, index: SearchIndex) -> None:
    text = "w11 w12 w13 w30 w31 w32"
    plain = {hit.code: hit.probability for hit in index.search(text, 10).hits}
    lexical = SearchIndex(trained.folder, Path("unused"), lexical=True).search(text, 10).hits
    with_words = {hit.code: hit.probability for hit in lexical}
    odds = [np.log(each["111112"] / each["111111"]) for each in (plain, with_words)]
    assert odds[1] > odds[0] + 1e-3
    other = SearchIndex(trained.folder, Path("unused"), lexical=True).search("w40", 10).hits
    assert other == index.search("w40", 10).hits  # no code has that word


def test_rows_are_answered_as_queries_are(index: SearchIndex) -> None:
    texts = ["w9", "", "w20 w21 w22", "  "]
    answers = index.answers(texts, 2)
    assert answers[1] == answers[3] == "the text has no word"
    for text, answer in ((texts[0], answers[0]), (texts[2], answers[2])):
        assert not isinstance(answer, str)
        hits = index.search(text, 2).hits
        assert [answer["rank1_code"], answer["rank2_code"]] == [hit.code for hit in hits]
        assert answer["rank1_title"] == hits[0].title
        assert answer["rank2_probability"] == pytest.approx(hits[1].probability, rel=1e-4)
        sure = answer.get("sure_code")
        if sure is not None:
            level = len(sure)
            best = index.search(text, 1, level).hits[0]
            assert (best.code, best.probability >= 0.5) == (sure, True)
    assert index.answers(["", ""], 2) == ["the text has no word"] * 2


def test_the_columns_of_rows(index: SearchIndex) -> None:
    names = columns(2).names
    assert names[:3] == ["rank1_code", "rank1_title", "rank1_probability"]
    assert names[-2:] == ["sure_code", "sure_probability"]
    (answer,) = index.answers(["w9"], 2)
    assert set(answer) <= set(names)
    assert len(names) == 8


@pytest.mark.parametrize("query", ["", "  \t\n"])
def test_a_query_without_a_word_is_refused(index: SearchIndex, query: str) -> None:
    with pytest.raises(DataError, match="has no word") as error:
        index.search(query, 5)
    assert "organic soybean farm" in error.value.hint


def test_the_export_of_an_experiment_is_found_by_its_name(trained: Any, index: SearchIndex) -> None:
    assert open_index(trained.config).search("w1", 2) == index.search("w1", 2)
    overrides = ["experiment_name=other", f"dirs.output_dir={trained.config.dirs.output_dir}"]
    with pytest.raises(DataError, match="other holds no embeddings") as error:
        open_index(load_config(None, None, overrides).config)
    assert "experiment_name=NAME" in error.value.hint


@pytest.mark.parametrize("lexical", [False, True])
def test_nothing_that_is_slow_to_import_is_needed(trained: Any, lexical: bool) -> None:
    code = f"""
import sys
from naics_job.export.search import SearchIndex
from pathlib import Path
index = SearchIndex({trained.folder!r}, Path("unused"), {lexical})
assert len(index.search("w9 w10", 1).hits) == len(index.answers(["w9"], 1)) == 1
found = {HEAVY!r} & set(sys.modules)
assert not found, found
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_points_are_those_of_the_table(trained: Any, index: SearchIndex) -> None:
    assert index.table.points.dtype == np.float32
    np.testing.assert_array_equal(index.table.points, trained.places.points.numpy())
