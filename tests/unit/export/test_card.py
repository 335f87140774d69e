from pathlib import Path

from naics_job.export.card import ModelCard, card_text, search_table
from naics_job.model.weights import BaseWeights


def card(trained_before: int = 0, source: str = "bundled") -> str:
    """A card whose run has another curvature than its settings."""
    scores = {"heldout": {"map": 0.625}}
    facts = ModelCard("run-1", "tiny", source, "d" * 64, 2.5, scores, {}, trained_before)
    return card_text(facts, "base", BaseWeights(Path("base"), "folder", "0" * 64))


def test_search_scores_are_shown_beside_the_baseline() -> None:
    scores = {"top@1": 0.5, "top@5": 0.75, "mrr": 0.625, "num_queries": 909.0}
    frozen = {"top@1": 0.25, "top@5": 0.5, "mrr": 0.375, "num_queries": 909.0}
    lines = search_table(scores, frozen)
    assert "909 index items" in lines[0]
    assert lines[-3:] == [
        "| top@1 | 0.500 | 0.250 |",
        "| top@5 | 0.750 | 0.500 |",
        "| mrr | 0.625 | 0.375 |",
    ]


def test_no_queries_no_table() -> None:
    (line,) = search_table({}, {})
    assert "not scored" in line


def test_the_curvature_is_the_trained_one_not_the_setting() -> None:
    assert "hyperboloid of curvature -2.5." in card()


def test_the_card_says_what_held_out_means() -> None:
    assert "never seen" not in card()
    for word in ("anchor", "positive", "negative", "mines", "clusters", "encodes", "may name it"):
        assert word in card()
    assert "started from" not in card()
    assert "3 of the held-out codes were trained by the runs whose" in card(trained_before=3)


def test_the_card_says_what_it_is_for_and_what_it_rests_on() -> None:
    text = card(source="census")
    for title in ("## Intended use", "## Quality", "## Limits", "## Licence of the texts"):
        assert text.count(title) == 1
    assert "| map | nan | nan | 0.625 | nan |" in text
    assert "test families" in text
    assert "17 U.S.C. 105" in text
    assert "17 U.S.C. 105" not in card(source="bundled")
