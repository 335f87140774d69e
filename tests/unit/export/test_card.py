from naics_job.export.card import search_table


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
