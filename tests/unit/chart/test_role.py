"""templates/role.yaml: the least that Events need."""

import pytest
from helm_chart import KINDS, find, merged, render, run_of

EVENTS = {"events": {"enabled": True}}


@pytest.mark.parametrize("kind", KINDS)
def test_it_allows_events_and_the_runs_own_object(kind: str) -> None:
    values = merged({"kind": kind}, EVENTS)
    events, own = find("Role", values)["rules"]
    assert events == {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]}
    run = run_of(kind, EVENTS)
    assert own == {
        "apiGroups": [run["apiVersion"].rpartition("/")[0]],
        "resources": [f"{kind.lower()}s"],
        "resourceNames": [run["metadata"]["name"]],
        "verbs": ["get"],
    }


def test_without_events_there_is_none() -> None:
    assert render()["role.yaml"].strip() == ""
