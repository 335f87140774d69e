"""Probabilities of coarser codes, and how deep an answer is sure."""

import numpy as np
import pytest

from naics_job.export.levels import Levels, sure_line

CODES = ["31-33", "311", "3114", "31142", "311421", "311422", "312", "3121", "31211", "312111"]
CODES += ["44-45", "441", "4411", "44111", "441110"]
DIGITS = np.array([2 if "-" in code else len(code) for code in CODES], dtype=np.int8)


@pytest.fixture
def levels() -> Levels:
    return Levels(DIGITS)


def every(levels: Levels, *leaves: float) -> np.ndarray:
    return levels.probabilities(np.array([leaves]))[0]


def test_a_code_is_as_likely_as_all_below_it(levels: Levels) -> None:
    found = dict(zip(CODES, every(levels, 0.4, 0.3, 0.2, 0.1), strict=True))
    assert found["311421"] == pytest.approx(0.4)
    assert found["31142"] == found["311"] == pytest.approx(0.7)
    assert found["31-33"] == pytest.approx(0.9)
    assert found["44-45"] == found["441110"] == pytest.approx(0.1)


def test_the_deepest_code_that_is_as_likely_as_not(levels: Levels) -> None:
    for leaves, code in (
        ((0.4, 0.3, 0.2, 0.1), "31142"),
        ((0.5, 0.3, 0.1, 0.1), "311421"),
        ((0.3, 0.1, 0.3, 0.3), "31-33"),
        ((0.1, 0.1, 0.1, 0.7), "441110"),
    ):
        sure = levels.sure(every(levels, *leaves))
        assert sure is not None
        assert CODES[sure] == code
    assert levels.sure(np.full(len(CODES), 0.4)) is None


def test_the_path_stays_in_the_likeliest_sector(levels: Levels) -> None:
    """The likeliest single code, 0.4, lies in the other one."""
    path = levels.path(every(levels, 0.3, 0.0, 0.3, 0.4))
    assert [CODES[row] for row in path] == ["31-33", "311", "3114", "31142", "311421"]


def line(levels: Levels, *leaves: float) -> str:
    probability = every(levels, *leaves)
    return sure_line(CODES, probability, levels.path(probability))


def test_the_line_leaves_out_what_says_nothing_more(levels: Levels) -> None:
    assert line(levels, 0.44, 0.37, 0.16, 0.03) == (
        "sure: sector 31-33 .97, 31142 .81; less sure: 311421 .44"
    )
    assert line(levels, 0.97, 0.01, 0.01, 0.01) == "sure: sector 31-33 .99, 31142 .98, 311421 .97"
    assert line(levels, 1.0, 0.0, 0.0, 0.0) == "sure: 311421 1.00"


def test_not_even_a_sector_is_sure(levels: Levels) -> None:
    half = np.where(np.isin(CODES, ["44-45", "441", "4411", "44111", "441110"]), 0.45, 0.3)
    assert sure_line(CODES, half, levels.path(half)) == "not sure of a sector: 441110 .45"
