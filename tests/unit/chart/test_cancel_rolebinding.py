"""templates/hooks/cancel-rolebinding.yaml: the hook's account gets the hook's role."""

from helm_chart import objects, render


def test_it_binds_the_hooks_account() -> None:
    items = {i["kind"]: i for i in objects({"run": {"replace": True}}) if "cancel" in _name(i)}
    binding = items["RoleBinding"]
    assert binding["roleRef"]["name"] == _name(items["Role"])
    [subject] = binding["subjects"]
    assert (subject["name"], subject["namespace"]) == (_name(items["ServiceAccount"]), "training")
    assert items["Job"]["spec"]["template"]["spec"]["serviceAccountName"] == subject["name"]


def _name(item: dict[str, dict[str, str]]) -> str:
    return item["metadata"]["name"]


def test_without_replace_there_is_none() -> None:
    assert render()["hooks/cancel-rolebinding.yaml"].strip() == ""
