"""Short forms of the campaigns; `make chaos` runs the long ones with the same code."""

import pytest
from campaigns.counts import Counts
from campaigns.exact import exact
from campaigns.outage import outage
from campaigns.sigkill import sigkill
from campaigns.sigterm import PHASES, sigterm
from campaigns.stage import Stage

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]


def check(counts: Counts, *happened: str) -> None:
    """Every goal is met, and what the campaign is about did happen."""
    counts.show()
    assert counts.missed() == []
    for name in happened:
        assert counts.values[name] > 0, f"{name}\n{counts.table()}"


def test_sigterm_in_every_phase_loses_nothing(stage: Stage) -> None:
    check(sigterm(stage, len(PHASES), (1,)), "trials", "runs finished", *PHASES)


def test_sigterm_to_one_pod_stops_all(stage: Stage) -> None:
    check(sigterm(stage, 1, (2,), ("step",)), "trials", "runs finished")


def test_sigkill_loses_no_more_than_what_was_not_stored(stage: Stage) -> None:
    check(sigkill(stage, 4), "kills", "kills amid an upload", "runs finished")


def test_interruptions_at_borders_change_nothing(stage: Stage) -> None:
    counts = exact(stage, 1, most_cuts=4)
    check(counts, "chains", "runs finished")
    kinds = ("interruptions by SIGTERM", "interruptions by SIGKILL")
    assert sum(counts.values[kind] for kind in kinds) == 4


def test_an_outage_stops_no_training(stage: Stage) -> None:
    check(outage(stage, 4.0), "steps during the outage")
