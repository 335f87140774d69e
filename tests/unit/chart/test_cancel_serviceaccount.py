"""templates/hooks/cancel-serviceaccount.yaml: the account of the hook, not of the run."""

from helm_chart import find, hook, objects, render


def test_it_is_the_hooks_own() -> None:
    values = {"run": {"replace": True}}
    accounts = [item for item in objects(values) if item["kind"] == "ServiceAccount"]
    [own] = [item for item in accounts if hook(item) == "pre-install,pre-upgrade,pre-rollback"]
    assert own["metadata"]["name"] != find("ServiceAccount", values)["metadata"]["name"]
    assert own["automountServiceAccountToken"] is False


def test_without_replace_there_is_none() -> None:
    assert render()["hooks/cancel-serviceaccount.yaml"].strip() == ""
