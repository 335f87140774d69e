from pathlib import Path

from naics_job.export.card import ModelCard, card_text, search_table
from naics_job.model.weights import BaseWeights


def card(trained_before: int = 0) -> str:
    """A card whose run has another curvature than its settings."""
    facts = ModelCard("run-1", "tiny", "bundled", "d" * 64, 2.5, {}, {}, trained_before)
    settings = {"model": {"base_model_name": "base"}, "loss": {"curvature": 1.0}}
    return card_text(facts, settings, BaseWeights(Path("base"), "folder", "0" * 64))


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
