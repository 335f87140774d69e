"""templates/serviceaccount.yaml: who the pods are."""

from helm_chart import find, objects, template_of


def test_it_carries_the_role_and_no_token() -> None:
    role = {"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/x"}
    account = find("ServiceAccount", {"serviceAccount": {"annotations": role}})
    assert role.items() <= account["metadata"]["annotations"].items()
    assert account["automountServiceAccountToken"] is False


def test_pods_use_it_under_its_name() -> None:
    for name, expected in (("", "demo-naics-train"), ("trainer", "trainer")):
        values = {"serviceAccount": {"name": name}}
        assert find("ServiceAccount", values)["metadata"]["name"] == expected
        assert template_of("Job", values)["spec"]["serviceAccountName"] == expected


def test_an_existing_one_may_be_used() -> None:
    for name, expected in (("", "default"), ("theirs", "theirs")):
        values = {"kind": "Job", "serviceAccount": {"create": False, "name": name}}
        assert "ServiceAccount" not in [item["kind"] for item in objects(values)]
        assert template_of("Job", values)["spec"]["serviceAccountName"] == expected
