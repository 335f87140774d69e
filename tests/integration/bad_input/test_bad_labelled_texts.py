"""Files of a user's own texts with mistakes in them, and scores on what was trained on."""

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.integration

Command = Callable[..., Any]
OWN = "data.labelled_texts=own.csv"


def write(work: Any, name: str, *rows: str) -> None:
    (work.root / name).write_text("\n".join(["text,code", *rows]) + "\n")


def test_an_unknown_code(nothing_yet: Any, command: Command) -> None:
    write(nothing_yet, "own.csv", "corn fields,111150", "a retired one,111151")
    ended = command("train", OWN)
    ended.refuses(65, "data.labelled_texts", "own.csv", "unknown code", "2 '111151'")
    assert nothing_yet.record["exit_code"] == 65
    assert not list(nothing_yet.root.glob("checkpoints/**/*.ckpt"))


@pytest.mark.parametrize("name", ["nowhere.csv", "own.txt"])
def test_no_such_file(nothing_yet: Any, command: Command, name: str) -> None:
    command("train", f"data.labelled_texts={name}").refuses(65, name)


def test_scores_on_texts_that_were_trained_on(nothing_yet: Any, command: Command) -> None:
    write(nothing_yet, "own.csv", "corn fields,111150", "potatoes,111211")
    write(nothing_yet, "new.csv", "orange groves,111310", "Corn  Fields,111150")
    write(nothing_yet, "other.csv", "orange groves,111310")
    assert command("train", OWN).code == 0
    ended = command("evaluate", "--texts", "new.csv", OWN)
    ended.refuses(65, "row 2 (row 1 there)", "own.csv", "new.csv")
    shown = command("evaluate", "--texts", "other.csv", OWN)
    assert shown.code == 0
    assert "search_lexical" in shown.out


def test_an_evaluation_without_the_texts_of_the_run(nothing_yet: Any, command: Command) -> None:
    """Nothing could tell which of the new texts it was trained on."""
    write(nothing_yet, "own.csv", "corn fields,111150")
    assert command("train", OWN).code == 0
    command("evaluate", "--texts", "own.csv").refuses(78, "labelled_digest", "labelled_texts")
