"""The table of metrics and its verdict."""

from naics_job.cli.results import MEANING, result_lines, split_lines
from naics_job.cli.show_config import WIDTH
from naics_job.evaluation.metrics import LOWER_IS_BETTER


def metrics(value: float) -> dict[str, float]:
    return {name: 1 - value if name in LOWER_IS_BETTER else value for name in MEANING}


def verdict(lines: list[str]) -> str:
    last = len(lines) - 1 - lines[::-1].index("")
    return "\n".join(lines[last + 1 :])


def test_better_everywhere() -> None:
    ours = {"all": metrics(0.9), "heldout": metrics(0.8)}
    frozen = {"all": metrics(0.5), "heldout": metrics(0.5)}
    lines = result_lines(ours, frozen, {"collapsed": False, "on_manifold": True})
    assert max(map(len, lines)) <= WIDTH + 10
    assert lines[2].split()[:5] == ["cophenetic", "0.900", "0.500", "0.800", "0.500"]
    assert verdict(lines).count("better than the frozen encoder in every metric") == 2
    assert "90 of 100" in verdict(lines)
    assert "warning" not in verdict(lines)


def test_a_metric_that_fell_behind_is_named() -> None:
    ours = {"all": metrics(0.9) | {"map": 0.4, "distortion": 0.9}}
    text = verdict(result_lines(ours, {"all": metrics(0.5)}, {}))
    assert "not better than the frozen encoder in map, distortion" in text


def test_equal_is_not_behind() -> None:
    perfect = {"parent@1": 1.0}
    ours, frozen = {"all": metrics(0.9) | perfect}, {"all": metrics(0.5) | perfect}
    text = verdict(result_lines(ours, frozen, {}))
    assert "better than the frozen encoder but for parent@1, where both are equal" in text
    assert "not better" not in text
    ours["all"] |= {"map": 0.1}
    assert (
        "not better than the frozen encoder in map\n"
        in verdict(result_lines(ours, frozen, {})) + "\n"
    )


def test_only_children_are_said_to_be_easy() -> None:
    ours = metrics(0.9) | {"parent@1_siblings": 0.75, "share_with_siblings": 0.4}
    frozen = metrics(0.5) | {"parent@1_siblings": 0.25, "share_with_siblings": 0.4}
    text = verdict(result_lines({"heldout": ours}, {"heldout": frozen}, {}))
    assert "60 of 100 held-out codes are only children" in text
    assert "nearest for 75 of 100 (frozen 25)" in text


def test_nothing_held_out_leaves_its_column_out() -> None:
    lines = result_lines({"all": metrics(0.9), "heldout": {}}, {"all": metrics(0.5)}, {})
    assert "held-out" not in "\n".join(lines)


def test_a_sick_embedding_is_told() -> None:
    ours = {"all": metrics(0.9)}
    text = verdict(result_lines(ours, {}, {"collapsed": True, "on_manifold": False}))
    assert "collapsed" in text
    assert "hyperboloid" in text
    assert "-" in result_lines(ours, {}, {})[2]


def test_text_search_has_its_own_rows() -> None:
    ours = {"all": metrics(0.9), "search": {"top@1": 0.5, "top@5": 0.75, "mrr": 0.6}}
    ours["search"]["num_queries"] = 909.0
    frozen = {"all": metrics(0.5), "search": {"top@1": 0.6, "top@5": 0.7, "mrr": 0.6}}
    lines = result_lines(ours, frozen, {})
    assert "text search: 909 held-out index items, each asked for its code" in lines
    rows = [line.split()[:3] for line in lines]
    assert ["top@1", "0.500", "0.600"] in rows
    assert ["mrr", "0.600", "0.600"] in rows
    text = verdict(lines)
    assert "first for 50 of 100; not better than the frozen encoder in top@1" in text
    assert "in top@1, mrr" not in text  # equal there


def test_texts_without_queries_say_so() -> None:
    text = "\n".join(result_lines({"all": metrics(0.9), "search": {}}, {}, {}))
    assert "text search: not scored" in text
    assert "top@1" not in text


def test_several_splits_are_means_with_standard_errors() -> None:
    ours = [{"all": {"map": value}, "search": {"top@1": 0.5}} for value in (0.4, 0.7, 0.7)]
    frozen = [{"all": {"map": value}, "search": {"top@1": 0.6}} for value in (0.1, 0.4, 0.4)]
    lines = split_lines(ours, frozen)
    assert lines[0].startswith("3 splits")
    text = {line.split()[0]: line.split() for line in lines if "+-" in line}
    assert text["map"][1:10] == [
        "0.600",
        "+-",
        "0.100",
        "0.300",
        "+-",
        "0.100",
        "0.300",
        "+-",
        "0.000",
    ]
    assert text["top@1"][7:10] == ["-0.100", "+-", "0.000"]
    assert not any("held-out codes" in line for line in lines)
