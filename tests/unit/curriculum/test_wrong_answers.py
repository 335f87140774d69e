"""What codes weigh as wrong answers, and what they would without one mechanism."""

from dataclasses import replace

import numpy as np
import pytest

from naics_job.curriculum.wrong_answers import WrongAnswers
from naics_job.data.sampler import FloatArray

KEEP = np.array([[True, True, True, False], [True, False, True, True]])
NONE = np.zeros_like(KEEP)
NEAR = np.array([[True, False, False, False], [False, False, False, True]])
ALIKE = np.array([[False, True, False, False], [False, False, False, False]])
NAMED = np.array([[0.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.0, 0.0]])
WHOLE = WrongAnswers(KEEP, KEEP.astype(float), NEAR, ALIKE, NAMED, 0.6)


def weight(parts: WrongAnswers) -> FloatArray:
    found: FloatArray = np.exp(parts.log_weight())
    return found


def test_what_is_mined_shares_its_part_and_the_rest_goes_by_weight() -> None:
    third = 0.4 / 3
    expected = [[third + 0.3, third + 0.3, third, 0], [third + 0.5, 0, third, third + 0.6]]
    np.testing.assert_allclose(weight(WHOLE), 3 * np.array(expected))
    assert (weight(WHOLE)[~KEEP] == 0).all()


def test_a_text_without_a_wrong_answer_has_none() -> None:
    parts = WrongAnswers(NONE, NONE.astype(float), NONE, NONE, np.zeros(KEEP.shape), 0.0)
    assert (parts.log_weight() == -np.inf).all()


@pytest.mark.parametrize(
    ("mechanism", "expected"),
    [
        ("mining", [[1, 1, 1, 0], [2.5, 0, 1, 1]]),
        ("router", [[0.4 + 1.8, 0.4, 0.4, 0], [0.4 + 1.5, 0, 0.4, 0.4 + 1.8]]),
        ("cross_reference_negatives", [[1.3, 1.3, 0.4, 0], [0.4, 0, 0.4, 2.2]]),
    ],
)
def test_without_a_mechanism_the_others_stay(mechanism: str, expected: list[list[float]]) -> None:
    np.testing.assert_allclose(weight(WHOLE.without_parts()[mechanism]), expected)


def test_a_router_that_chose_all_leaves_the_weights_of_before_mining() -> None:
    parts = replace(WHOLE, near=NONE, named=np.zeros(KEEP.shape))
    found = parts.without_parts()
    np.testing.assert_allclose(weight(found["router"]), KEEP)
    np.testing.assert_array_equal(weight(found["router"]), weight(found["mining"]))


def test_only_what_acts_is_named() -> None:
    parts = WrongAnswers(KEEP, KEEP.astype(float), NONE, NONE, np.zeros(KEEP.shape), 0.0)
    assert parts.without_parts() == {}
    assert set(replace(parts, hard_share=0.6, near=NEAR).without_parts()) == {"mining"}


def test_other_codes_have_one_weight_before_mining() -> None:
    everyone = np.ones_like(KEEP)
    parts = replace(WHOLE, weight=KEEP * 7.0, near=NONE, alike=NONE, hard_share=0.0).over(everyone)
    np.testing.assert_allclose(weight(replace(parts, named=np.zeros(KEEP.shape))), everyone)
