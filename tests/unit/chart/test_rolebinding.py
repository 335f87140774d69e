"""templates/rolebinding.yaml: the run's account gets the run's role."""

from helm_chart import find, render

EVENTS = {"events": {"enabled": True}}


def test_it_binds_the_pods_account_to_the_role() -> None:
    binding = find("RoleBinding", EVENTS)
    role, account = find("Role", EVENTS), find("ServiceAccount", EVENTS)
    assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == (
        "Role",
        role["metadata"]["name"],
    )
    expected = {"kind": "ServiceAccount", "namespace": "training"}
    assert binding["subjects"] == [{**expected, "name": account["metadata"]["name"]}]


def test_without_events_there_is_none() -> None:
    assert render()["rolebinding.yaml"].strip() == ""
