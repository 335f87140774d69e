"""Nearest parents, right and wrong."""

import numpy as np

from naics_job.evaluation.distances import MatrixDistances
from naics_job.evaluation.parents import nearest_parents
from naics_job.evaluation.retrieval import parent_hits
from naics_job.taxonomy.codes import bundled_titles
from naics_job.taxonomy.tree import Taxonomy

ROWS = [(code, title) for code, title in bundled_titles() if code[:2] in ("21", "22", "55")]
TREE = Taxonomy.from_codes(*zip(*ROWS, strict=True))
EVERYONE = np.arange(len(TREE))
TREE_DISTANCE = TREE.tree_distance(EVERYONE, EVERYONE).astype(np.float32)


def test_the_tree_itself_has_no_wrong_parent() -> None:
    found = nearest_parents(MatrixDistances(TREE_DISTANCE), TREE)
    assert len(found.codes) == len(TREE) - 3
    assert not found.wrong(TREE).any()
    assert not found.misplaced_by(TREE).any()
    assert not found.excess.any()


def test_a_planted_mistake_is_named() -> None:
    child, wrong = TREE.position("221111"), TREE.position("21222")
    matrix = TREE_DISTANCE.copy()
    matrix[child, wrong] = 0.25
    found = nearest_parents(MatrixDistances(matrix), TREE)
    assert found.codes[found.wrong(TREE)].tolist() == [child]
    row = int(np.flatnonzero(found.wrong(TREE))[0])
    assert found.nearest[row] == wrong
    assert found.excess[row] == 0.75  # the parent is one edge away
    assert found.misplaced_by(TREE)[row] == 8  # two industries of different sectors


def test_agrees_with_the_metric_and_takes_ties_as_right() -> None:
    noise = np.random.default_rng(0).normal(size=TREE_DISTANCE.shape).astype(np.float32)
    matrix = TREE_DISTANCE + 2 * noise
    found = nearest_parents(MatrixDistances(matrix), TREE)
    hits = parent_hits(matrix, TREE, EVERYONE)
    np.testing.assert_array_equal(found.wrong(TREE), hits[found.codes] == 0)
    assert 0 < found.wrong(TREE).sum() < len(found.codes)
    flat = nearest_parents(MatrixDistances(np.ones_like(matrix)), TREE)
    assert not flat.wrong(TREE).any()
