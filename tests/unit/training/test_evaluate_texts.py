"""A user's labelled texts: what is measured is what a search on the export answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from naics_job.data.labelled import read_labelled
from naics_job.errors import DataError
from naics_job.evaluation.text_report import SYSTEMS
from naics_job.export.model import SETTINGS
from naics_job.export.search import SearchIndex
from naics_job.training import evaluate_texts
from naics_job.training.documents import leaf_documents
from naics_job.training.evaluate_texts import evaluate_on_texts, report_on_texts
from naics_job.training.final import Final, finish
from naics_job.training.publish import publish
from naics_job.training.record import RunRecord

LONG = "grain and beans and fields and trees and bread " * 4
TEXTS = {"Corn Farming and hay": "111150", "Dry pea farms": "11113", LONG: "1111"}


@pytest.fixture(scope="module")
def final(job: Any) -> Final:
    return finish(job)


@pytest.fixture
def texts(tmp_path: Path) -> str:
    lines = [f'"{text}",{code}\n' for text, code in TEXTS.items()]
    (tmp_path / "asked.csv").write_text("text,code\n" + "".join(lines))
    return str(tmp_path / "asked.csv")


@pytest.fixture(scope="module")
def folder(job: Any, final: Final) -> str:
    record = RunRecord("run-1", "c" * 64)
    record.describe(job.inputs.data, job.inputs.base)
    publish(job.module.config, job, final, record)
    assert set(record.exports) == {"embeddings", "model"}
    assert "all" in record.metrics
    return str(Path(record.exports["embeddings"]).parent)


@pytest.mark.parametrize("lexical", [False, True])
def test_the_export_answers_as_was_measured(
    job: Any, final: Final, texts: str, folder: str, lexical: bool
) -> None:
    taxonomy = job.inputs.data.taxonomy
    report = report_on_texts(job, final, read_labelled(texts, taxonomy, "--texts"))
    index = SearchIndex(folder, Path("unused"), lexical)
    first = [index.search(text, 1).hits[0].code for text in TEXTS]
    right = [answer.startswith(code) for answer, code in zip(first, TEXTS.values(), strict=True)]
    system = report.systems["search_lexical" if lexical else "search"]
    assert system["top1"] == pytest.approx(np.mean(right))
    assert 0 <= system["calibration_error"] <= 1
    assert (report.num_rows, set(report.systems)) == (3, set(SYSTEMS))
    assert "calibration_error" not in report.systems["tfidf"]


def test_probabilities_of_the_export_are_those_of_the_network(
    job: Any, final: Final, folder: str
) -> None:
    from naics_job.training.evaluate_texts import ranker_of
    from naics_job.training.scoring import asked_tokens, read_texts

    read = read_texts(job, asked_tokens(job, list(TEXTS)))
    points = job.module.embedder(read).points.detach().numpy()
    ranked = ranker_of(job, final).rank(points, read.long.numpy())
    index = SearchIndex(folder, Path("unused"))
    leaves = [job.inputs.data.taxonomy.codes[at] for at in job.inputs.data.taxonomy.six_digit()]
    for row, text in enumerate(TEXTS):
        found = {hit.code: hit.probability for hit in index.search(text, 1000).hits}
        np.testing.assert_allclose(
            [found[code] for code in leaves], ranked.probability[row], atol=1e-3
        )
    assert read.long.tolist() == [False, False, True]


def test_the_user_s_own_texts_are_the_reasons(folder: str) -> None:
    assert (Path(folder) / SETTINGS).is_file()
    hits = SearchIndex(folder, Path("unused")).search("Wheat for bread", 1000).hits
    reasons = {hit.code: hit.item for hit in hits if hit.item is not None}
    assert reasons["111140"] == "Wheat for bread"
    assert len(reasons) == 4


def test_every_system_has_the_same_texts(job: Any) -> None:
    documents = leaf_documents(job.inputs.data, job.inputs.labelled)
    leaves = [job.inputs.data.taxonomy.codes[at] for at in job.inputs.data.taxonomy.six_digit()]
    assert "Wheat for bread" in documents[leaves.index("111140")].split("\n")
    assert "Wheat for bread" not in "".join(leaf_documents(job.inputs.data, None))
    frozen = evaluate_texts._frozen_codes(job)
    counts = dict(zip(leaves, frozen.item_start.diff().tolist(), strict=True))
    assert {code for code, count in counts.items() if count} == {
        "111150",
        "111140",
        "111110",
        "111310",
    }
    own = job.inputs.features.labelled[list(job.inputs.labelled.texts).index("Wheat for bread")]
    assert (frozen.items[frozen.item_start[leaves.index("111140")]] == own).all()
    assert frozen.has_title.all()


def test_texts_that_were_trained_on_are_refused(
    job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate_texts, "checkpoint_job", lambda loaded, path: job)
    (tmp_path / "asked.csv").write_text("text,code\nwheat  FOR bread,111140\n")
    with pytest.raises(DataError, match="which is trained on"):
        evaluate_on_texts(None, "last", str(tmp_path / "asked.csv"))  # type: ignore[arg-type]
    (tmp_path / "asked.csv").write_text("text,code\nnew words,111140\n")
    report = evaluate_on_texts(None, "last", str(tmp_path / "asked.csv"))  # type: ignore[arg-type]
    assert report.num_rows == 1
