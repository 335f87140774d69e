"""The check of requirements.lock finds what it is there to find."""

from collections.abc import Callable

import pytest
from scripts import ROOT, load_script


@pytest.fixture(scope="module")
def problems() -> Callable[[str], list[str]]:
    module = load_script(".ci/lock.py")
    check: Callable[[str], list[str]] = module.problems
    return check


@pytest.fixture(scope="module")
def lock() -> str:
    return (ROOT / "requirements.lock").read_text()


def test_the_committed_lock_fits(problems: Callable[[str], list[str]], lock: str) -> None:
    assert problems(lock) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sha256 ", "sha256 0", "not made from"),
        ("\nlightning==2.6", "\nlightning==2.5", "lightning"),
        ("\ntorch==", "\ntorch>=", "torch"),
        ("\ntyper==", "\nother==", "typer"),
        ("    --hash=sha256:", "    # ", "not a pin with hashes"),
        ("\nabsl-py==", "\n--index-url https://mirror.example/simple\nabsl-py==", "address"),
    ],
)
def test_a_lock_that_does_not_fit(
    old: str, new: str, message: str, problems: Callable[[str], list[str]], lock: str
) -> None:
    assert old in lock
    assert any(message in problem for problem in problems(lock.replace(old, new)))
