"""templates/hooks/cancel-role.yaml: it may stop runs of any kind, and nothing else."""

from helm_chart import KINDS, hook, objects, render, run_of


def test_it_covers_every_kind_a_release_may_have_had() -> None:
    [role] = [item for item in objects({"run": {"replace": True}}) if item["kind"] == "Role"]
    granted = {
        (rule["apiGroups"][0], rule["resources"][0]): set(rule["verbs"]) for rule in role["rules"]
    }
    for kind in KINDS:
        group = run_of(kind)["apiVersion"].rpartition("/")[0]
        verbs = granted.pop((group, f"{kind.lower()}s"))
        assert verbs == {"get", "list", "watch", "patch", "delete"}
    assert granted == {
        ("", "pods"): {"get", "list", "watch"},
        ("kueue.x-k8s.io", "workloads"): {"list", "patch"},
    }


def test_it_is_there_before_the_job() -> None:
    items = [
        item
        for item in objects({"run": {"replace": True}})
        if hook(item) == "pre-install,pre-upgrade,pre-rollback"
    ]
    weight = {i["kind"]: int(i["metadata"]["annotations"]["helm.sh/hook-weight"]) for i in items}
    assert weight["Role"] < weight["RoleBinding"] < weight["Job"]
    assert weight["ServiceAccount"] < weight["Job"]


def test_without_replace_there_is_none() -> None:
    assert render()["hooks/cancel-role.yaml"].strip() == ""
