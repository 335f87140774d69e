"""What `tools investigate` says about embeddings with known faults."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from naics_job.cli.evidence import Evidence, Frozen, gather
from naics_job.cli.findings import MARK, channel_findings, distance_findings
from naics_job.cli.investigate import explain
from naics_job.cli.parent_findings import parent_findings, text_findings
from naics_job.config.schema import Config
from naics_job.data.prepare import prepare_all
from naics_job.errors import DataError
from naics_job.evaluation.breakdown import all_pairs, fit_distance, fit_rank
from naics_job.evaluation.distances import MatrixDistances
from naics_job.evaluation.parents import nearest_parents

Write = Callable[..., None]
MISPLACED = {"221310": "611110", "22131": "61111"}


@pytest.fixture
def evidence(past_config: Config, write_logs: Write, write_points: Write) -> Evidence:
    write_logs()
    write_points()
    prepare_all(past_config)
    return gather(past_config)


def seen_as(evidence: Evidence, matrix: np.ndarray) -> Evidence:
    """The same codes with other distances between them."""
    distances = MatrixDistances(matrix)
    pairs = all_pairs(distances, evidence.taxonomy)
    parents = nearest_parents(distances, evidence.taxonomy)
    return replace(evidence, pairs=pairs, parents=parents)


def tree_of(evidence: Evidence) -> np.ndarray:
    everyone = np.arange(len(evidence.taxonomy))
    return evidence.taxonomy.tree_distance(everyone, everyone).astype(np.float32)


def test_no_embedding(past_config: Config) -> None:
    with pytest.raises(DataError, match="no embeddings") as caught:
        list(explain(past_config))
    assert "train first" in caught.value.hint


def test_a_report_with_planted_mistakes(
    past_config: Config, write_logs: Write, write_points: Write
) -> None:
    """Two codes of sector 22 are embedded as codes of sector 61."""
    write_logs()
    write_points(MISPLACED)
    prepare_all(past_config)
    lines = list(explain(past_config))
    text = "\n".join(lines)
    tree = gather(past_config).taxonomy
    assert f"{len(tree):,} codes, {len(tree) * (len(tree) - 1) // 2:,} pairs" in lines[0]
    assert f"2 of {len(tree) - 3:,} codes have a wrong nearest parent" in text
    assert "2 (100%) lie in another sector" in text
    wrong = next(line for line in lines if line.strip().startswith("221310"))
    assert "nearest 61111" in wrong
    assert "right 22131" in wrong
    assert "title: " in text
    assert "the text alone was not looked at" in text
    assert "the settings are not those" not in text
    report = Path(past_config.dirs.docs_dir) / "past" / "investigation.txt"
    assert report.read_text().splitlines() == lines[:-1]
    assert lines[-1] == f"written to {report}"


def test_what_is_missing_is_said(past_config: Config, write_points: Write) -> None:
    write_points()
    text = "\n".join(explain(past_config))
    assert "the record of run 20260101-120000-abcdef is gone" in text
    assert "channels were not looked at: there is no table of descriptions" in text


def test_saturation_and_overlap(evidence: Evidence) -> None:
    tree = tree_of(evidence)

    def said(matrix: np.ndarray) -> list[str]:
        other = seen_as(evidence, matrix)
        return distance_findings(other, fit_distance(other.pairs), fit_rank(other.pairs))

    fine = said(tree)
    assert not any(line.startswith(MARK) for line in fine)
    assert "cophenetic: 0.0% of the variance is unexplained" in "\n".join(fine)
    flat = [line for line in said(np.minimum(tree, 8)) if line.startswith(MARK)]
    assert "8 to 9 (+0.00), 9 to 10 (+0.00)" in flat[0]
    assert "8 and 9 (50 of 100), 9 and 10 (50 of 100)" in flat[1]


def test_a_missing_channel_that_hurts(evidence: Evidence) -> None:
    """Six-digit codes without examples get half the score of the others."""
    six = evidence.taxonomy.level == 6
    rng = np.random.default_rng(0)
    present = np.ones((len(six), 4), dtype=bool)
    present[:, 2] = rng.random(len(six)) < 0.6
    hits = np.where(present[:, 2], 1.0, 0.5)
    hits[evidence.taxonomy.depth == 1] = np.nan
    scores = replace(
        evidence.scores, parent_hit=hits, ndcg={**evidence.scores.ndcg, 10: np.ones(len(six))}
    )
    lines = channel_findings(replace(evidence, present=present, scores=scores))
    marked = [line for line in lines if line.startswith(MARK)]
    wanted = f"{MARK}6-digit codes without examples: parent@1 0.500"
    assert any(line.startswith(wanted) for line in marked)
    assert not any("NDCG" in line for line in marked)


def test_what_text_alone_confuses(evidence: Evidence) -> None:
    """The trained embedding has two wrong parents; the untrained one had the first and another."""
    tree = evidence.taxonomy

    def with_mistakes(*codes: str) -> Evidence:
        matrix = tree_of(evidence)
        for code in codes:
            matrix[tree.position(code), tree.position("61111")] = 0.5
        return seen_as(evidence, matrix)

    trained, before = with_mistakes("221310", "212114"), with_mistakes("221310", "212115")
    frozen = Frozen(before.parents, evidence.scores)
    lines = text_findings(replace(trained, frozen=frozen))
    assert lines[0].startswith("of 2 wrong parents the untrained encoder has 1 wrong as well (50%)")
    assert "1 of them the same one" in lines[0]
    assert lines[1] == "training mended 1 parents and broke 1"
    assert "8 edges from the right one" in "\n".join(parent_findings(trained))
