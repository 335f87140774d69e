"""The table of newest values."""

import pytest

from naics_job.observability.readings import Readings


def test_a_gauge_is_replaced_and_a_counter_grows() -> None:
    readings = Readings()
    readings.set("naics_training_loss", 2.0, "total")
    readings.set("naics_training_loss", 1.0, "total")
    readings.set("naics_training_loss", 3.0, "search")
    readings.add("naics_training_codes_total", 5)
    readings.add("naics_training_codes_total")
    assert dict(readings.series("naics_training_loss")) == {("total",): 1.0, ("search",): 3.0}
    assert readings.value("naics_training_codes_total") == 6
    assert readings.value("naics_training_step") is None
    assert set(readings.present()) == {"naics_training_loss", "naics_training_codes_total"}


def test_one_hot_clears_what_held_before() -> None:
    readings = Readings()
    for status in ("a", "b"):
        readings.one_hot("naics_run_outcome", status, ("a", "b"))
    assert dict(readings.series("naics_run_outcome")) == {("a",): 0.0, ("b",): 1.0}


@pytest.mark.parametrize(
    ("name", "labels"),
    [("naics_training_loss", ()), ("naics_training_step", ("total",))],
)
def test_other_labels_than_declared_are_a_defect(name: str, labels: tuple[str, ...]) -> None:
    with pytest.raises(AssertionError, match=name):
        Readings().set(name, 1.0, *labels)


def test_an_undeclared_name_is_a_defect() -> None:
    with pytest.raises(KeyError):
        Readings().set("naics_no_such_metric", 1.0)
    with pytest.raises(AssertionError):
        Readings().observe("naics_training_step", 1.0)
