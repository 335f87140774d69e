"""Scores of found codes against cases worked by hand, brute force and other libraries."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from sklearn.metrics import label_ranking_average_precision_score, top_k_accuracy_score
from torchmetrics.functional.classification import binary_calibration_error

from naics_job.errors import DataError
from naics_job.evaluation.search import places_of_truth, search_metrics
from naics_job.evaluation.text_scores import (
    calibration_error,
    is_right,
    score_systems,
    score_texts,
    standard_error,
)
from naics_job.taxonomy.codes import bundled_titles
from naics_job.taxonomy.tree import IntArray, Taxonomy

CODES = (
    *("11", "111", "1111", "11111", "111110", "11112", "111121", "111122"),
    *("22", "221", "2211", "22111", "221111"),
)
TAXONOMY = Taxonomy.from_codes(CODES, CODES)
LEAVES = TAXONOMY.six_digit()  # 111110, 111121, 111122, 221111


def at(*codes: str) -> IntArray:
    return TAXONOMY.positions(codes)


def test_places_and_levels_worked_by_hand() -> None:
    scores = np.array(
        [
            [0.9, 0.5, 0.4, 0.1],  # truth 111110: first
            [0.9, 0.5, 0.4, 0.1],  # truth 111122: third; the first agrees in 4 digits
            [0.1, 0.2, 0.9, 0.3],  # truth 111121: third; the first agrees in 5 digits
            [0.1, 0.2, 0.9, 0.3],  # truth 221111: second; the first is of another sector
        ],
        dtype=np.float32,
    )
    found = score_texts(scores, LEAVES, at("111110", "111122", "111121", "221111"), TAXONOMY)
    assert found == pytest.approx(
        {
            "top1": 1 / 4,
            "top5": 1.0,
            "top10": 1.0,
            "mrr": (1 + 1 / 3 + 1 / 3 + 1 / 2) / 4,
            "level_2": 3 / 4,
            "level_3": 3 / 4,
            "level_4": 3 / 4,
            "level_5": 2 / 4,
            "level_6": 1 / 4,
        }
    )
    assert all(type(value) is float for value in found.values())


def test_a_coarse_code_is_found_by_the_best_of_those_below_it() -> None:
    scores = np.array([[0.9, 0.5, 0.4, 0.1], [0.2, 0.5, 0.4, 0.9], [0.2, 0.5, 0.4, 0.9]])
    # 111121 second; 111121 second; 221111 first
    found = score_texts(scores, LEAVES, at("11112", "1111", "22"), TAXONOMY)
    assert found == pytest.approx(
        {
            "top1": 1 / 3,
            "top5": 1.0,
            "top10": 1.0,
            "mrr": (1 / 2 + 1 / 2 + 1) / 3,
            "level_2": 2 / 3,  # the first of the second text is of sector 22
            "level_3": 1 / 2,  # without the sector
            "level_4": 1 / 2,
            "level_5": 0.0,  # of 11112 alone; its first answer is 111110
        }
    )  # and no level_6: no true code has six digits


def test_weights_count_rows() -> None:
    scores = np.array([[0.9, 0.5, 0.4, 0.1], [0.1, 0.2, 0.3, 0.9], [0.9, 0.2, 0.3, 0.1]])
    truth = at("111110", "111110", "22")
    found = score_texts(scores, LEAVES, truth, TAXONOMY, np.array([3.0, 1.0, 4.0]))
    assert found["top1"] == pytest.approx(3 / 8)
    assert found["mrr"] == pytest.approx((3 * 1 + 1 * 1 / 4 + 4 * 1 / 4) / 8)
    assert found["level_6"] == pytest.approx(3 / 4)  # the sector does not count
    whole = score_texts(
        scores[[0, 0, 0, 1, 2, 2, 2, 2]], LEAVES, truth[[0, 0, 0, 1] + [2] * 4], TAXONOMY
    )
    assert found == pytest.approx(whole)


@pytest.mark.parametrize("truth", ["111110", "11112", "1111", "22"])
def test_ties_are_the_mean_over_all_their_orders(truth: str) -> None:
    scores = np.array([[0.5, 0.9, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5], [0.2, 0.7, 0.7, 0.9]])
    tied = score_texts(scores, LEAVES, at(truth, truth, truth), TAXONOMY)
    orders = [
        score_texts(scores + 1e-3 * np.array(noise), LEAVES, at(truth, truth, truth), TAXONOMY)
        for noise in itertools.permutations(range(4))
    ]
    expected = {name: np.mean([order[name] for order in orders]) for name in tied}
    assert tied == pytest.approx(expected)
    assert tied.keys() == orders[0].keys()


def test_equal_scores_are_a_blind_guess() -> None:
    codes, titles = zip(*bundled_titles(), strict=True)
    taxonomy = Taxonomy.from_codes(codes, titles)
    leaves = taxonomy.six_digit()
    found = score_texts(np.zeros((5, len(leaves))), leaves, leaves[[0, 9, 99, 500, 1011]], taxonomy)
    assert found["top1"] == pytest.approx(1 / 1012)
    assert found["top10"] == pytest.approx(10 / 1012)
    assert found["level_6"] == pytest.approx(1 / 1012)
    assert found["mrr"] == pytest.approx((1 / np.arange(1, 1013)).mean())


def random_case(rows: int, decimals: int) -> tuple[np.ndarray, IntArray]:
    rng = np.random.default_rng(0)
    scores = np.round(rng.random((rows, len(LEAVES))), decimals).astype(np.float32)
    return scores, rng.choice(LEAVES, rows)


def test_scores_agree_with_the_text_search() -> None:
    scores, truth = random_case(300, 1)  # with ties
    other = search_metrics(
        *places_of_truth(-scores, np.searchsorted(LEAVES, truth)), depths=(1, 5, 10)
    )
    found = score_texts(scores, LEAVES, truth, TAXONOMY)
    assert found["mrr"] == pytest.approx(other["mrr"])
    for depth in (1, 5, 10):
        assert found[f"top{depth}"] == pytest.approx(other[f"top@{depth}"])


def test_scores_agree_with_scikit_learn() -> None:
    codes, titles = zip(*bundled_titles(), strict=True)
    taxonomy = Taxonomy.from_codes(codes, titles)
    leaves = taxonomy.six_digit()[:60]
    rng = np.random.default_rng(1)
    scores, column = rng.random((200, 60)).astype(np.float32), rng.integers(0, 60, 200)
    found = score_texts(scores, leaves, leaves[column], taxonomy)
    for depth in (1, 5, 10):
        expected = top_k_accuracy_score(column, scores, k=depth, labels=np.arange(60))
        assert found[f"top{depth}"] == pytest.approx(expected)
    mrr = label_ranking_average_precision_score(np.eye(60)[column], scores)
    assert found["mrr"] == pytest.approx(mrr)


def test_blocks_and_tensors_do_not_matter() -> None:
    scores, truth = random_case(2100, 1)
    whole = score_texts(scores, LEAVES, truth, TAXONOMY)

    def blocks() -> Iterator[torch.Tensor]:
        for start in range(0, 2100, 700):
            yield torch.from_numpy(scores[start : start + 700])

    assert score_texts(blocks(), LEAVES, truth, TAXONOMY) == whole
    assert score_texts(torch.from_numpy(scores), LEAVES, truth, TAXONOMY) == whole


def test_several_systems_in_one_pass() -> None:
    scores, truth = random_case(9, 3)
    blocks = [{"a": scores[:4], "b": -scores[:4]}, {"a": scores[4:], "b": -scores[4:]}]
    found = score_systems(blocks, LEAVES, truth, TAXONOMY)
    assert found == {
        "a": score_texts(scores, LEAVES, truth, TAXONOMY),
        "b": score_texts(-scores, LEAVES, truth, TAXONOMY),
    }


def test_a_code_without_a_candidate_is_never_found() -> None:
    scores = np.array([[0.9, 0.5]])
    found = score_texts(scores, at("111110", "221111"), at("11112"), TAXONOMY)
    assert (found["top10"], found["mrr"]) == (0.0, 0.0)
    assert (found["level_4"], found["level_5"]) == (1.0, 0.0)


def test_an_excluded_candidate_may_have_minus_infinity() -> None:
    scores = np.array([[-np.inf, 0.5, 0.4, -np.inf], [-np.inf, 0.5, 0.4, 0.3]])
    found = score_texts(scores, LEAVES, at("111121", "111110"), TAXONOMY)
    assert found["top1"] == 1 / 2
    assert found["mrr"] == pytest.approx((1 + 1 / 4) / 2)


def test_scores_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="not numbers"):
        score_texts(np.array([[0.1, np.nan, 0.2, 0.3]]), LEAVES, at("111110"), TAXONOMY)


@pytest.mark.parametrize("shape", [(3, 4), (1, 4), (2, 5)])
def test_scores_must_be_those_of_the_codes_and_candidates(shape: tuple[int, int]) -> None:
    with pytest.raises(AssertionError):
        score_texts(np.zeros(shape), LEAVES, at("11", "22"), TAXONOMY)


def test_no_query_gives_no_scores() -> None:
    assert score_texts([], LEAVES, at(), TAXONOMY) == {}
    assert score_texts(np.zeros((0, 4)), LEAVES, at(), TAXONOMY) == {}


def test_an_answer_is_right_if_it_is_the_code_or_below_it() -> None:
    answers = at("111121", "111121", "111121", "111121", "11112")
    truth = at("111121", "11112", "11", "22", "111121")
    assert is_right(answers, truth, TAXONOMY).tolist() == [True, True, True, False, False]


def test_calibration_error_worked_by_hand() -> None:
    probability = np.array([0.9, 0.1, 0.8, 0.3])
    correct = np.array([True, False, False, True])
    # bins (0.1, 0.3) with 1 of 2 right and (0.8, 0.9) with 1 of 2 right
    expected = (2 * abs(0.5 - 0.2) + 2 * abs(0.5 - 0.85)) / 4
    assert calibration_error(probability, correct, bins=2) == pytest.approx(expected)
    every = (0.1 + 0.7 + 0.8 + 0.1) / 4
    assert calibration_error(probability, correct, bins=100) == pytest.approx(every)


def test_calibration_error_does_not_depend_on_the_order_of_equal_probabilities() -> None:
    probability, correct = np.full(30, 0.5), np.arange(30) < 15
    assert calibration_error(probability, correct) == pytest.approx(0.0)
    assert calibration_error(probability, correct[::-1]) == pytest.approx(0.0)


def test_calibration_error_agrees_with_torchmetrics_where_the_bins_are_the_same() -> None:
    rng = np.random.default_rng(0)
    probability = rng.permutation((np.arange(300) + 0.5) / 300)
    correct = rng.random(300) < probability**2
    reference = binary_calibration_error(
        torch.from_numpy(probability), torch.from_numpy(correct).long(), n_bins=15
    )
    assert float(reference) > 0.05
    assert calibration_error(probability, correct) == pytest.approx(float(reference), abs=1e-6)


def test_standard_error_of_a_share() -> None:
    assert standard_error(0.5, 100) == pytest.approx(0.05)
    assert standard_error(0.2, 1500) == pytest.approx(np.sqrt(0.16 / 1500))
    assert standard_error(1.0000000001, 9) == 0.0
