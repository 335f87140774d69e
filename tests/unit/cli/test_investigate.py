"""What `tools investigate` says about embeddings with known faults."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from naics_job.cli.evidence import Evidence, Frozen, gather
from naics_job.cli.findings import MARK, channel_findings, distance_findings, heldout_findings
from naics_job.cli.investigate import explain
from naics_job.cli.parent_findings import parent_findings, text_findings
from naics_job.config.schema import Config
from naics_job.data.prepare import prepare_all
from naics_job.data.splits import split_families
from naics_job.errors import DataError
from naics_job.evaluation.breakdown import all_pairs, fit_distance, fit_rank
from naics_job.evaluation.distances import MatrixDistances
from naics_job.evaluation.parents import nearest_parents
from naics_job.model.features import FrozenFeatures, _write

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


def test_held_out_codes_are_those_of_the_test_split(
    past_config: Config, evidence: Evidence
) -> None:
    """Test codes get half the score of the training codes; those of validation do not count."""
    loader, tree = past_config.data_loader, evidence.taxonomy
    splits = split_families(tree, loader.val_split, loader.test_split, past_config.seed)
    np.testing.assert_array_equal(evidence.heldout, splits.test)
    hits = np.ones(len(tree))
    hits[splits.test], hits[splits.validation] = 0.5, 0.0
    scores = replace(evidence.scores, parent_hit=hits)
    lines = heldout_findings(replace(evidence, scores=scores), fit_distance(evidence.pairs))
    below = np.isin(tree.level, np.unique(tree.level[splits.test]))
    trained = int((below & evidence.is_trained).sum())
    wanted = f"held-out codes: parent@1 0.500 ({len(splits.test)} codes), of the others 1.000 "
    assert lines[0].startswith(f"{MARK}{wanted}({trained});")
    nobody = replace(evidence, heldout=np.empty(0, dtype=np.int64))
    assert heldout_findings(nobody, fit_distance(evidence.pairs)) == [
        "no codes were held out to be reported (data_loader.test_split=0)"
    ]


def test_the_frozen_encoder_is_scored_from_its_cached_features(
    past_config: Config, evidence: Evidence
) -> None:
    """Titles, descriptions and items are drawn so that a code resembles its parent most."""
    assert evidence.frozen is None
    tree = evidence.taxonomy
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(len(tree), 64, generator=generator)
    for position in range(len(tree)):
        above = int(tree.parent[position])
        vectors[position] = 0.3 * vectors[position] + (vectors[above] if above >= 0 else 0)
    none = [torch.zeros(0, 64), torch.zeros(len(tree) + 1, dtype=torch.int64)] * 2
    parts = [part.clone() for part in (vectors, vectors, *none)]
    own = {"labelled": torch.zeros(0, 64), "labelled_code": torch.zeros(0, dtype=torch.int64)}
    features = FrozenFeatures(*parts, query=torch.zeros(0, 64), **own)
    url = f"{past_config.dirs.data_dir}/features/f.safetensors"
    _write(url, features, {"tokens": "t", "base": "a" * 64}, "f")
    frozen = gather(past_config).frozen
    assert frozen is not None
    assert frozen.parents.wrong(tree).mean() < 0.2
    assert "the untrained encoder" in "\n".join(explain(past_config))


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
