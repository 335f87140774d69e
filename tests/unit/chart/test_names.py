"""templates/_names.tpl: names that change with the run, labels that do not, and what is kept."""

from typing import Any

import pytest
from helm_chart import KINDS, find, hook, merged, objects, refusal, run_of, template_of

ALL: dict[str, Any] = {
    "events": {"enabled": True},
    "podMonitor": {"enabled": True},
    "networkPolicy": {"enabled": True},
    "run": {"replace": True},
}


def name(kind: str, values: dict[str, Any] | None = None, **options: Any) -> str:
    found: str = find(kind, merged({"kind": kind}, values or {}), **options)["metadata"]["name"]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_name_is_the_releases_with_eight_digits(kind: str) -> None:
    release, _, digest = name(kind).rpartition("-")
    assert release == "demo-naics-train"
    assert len(digest) == 8
    assert int(digest, 16) >= 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "change",
    [
        {"image": {"tag": "other"}},
        {"config": {"seed": 1}},
        {"overrides": ["seed=1"]},
        {"nodes": 2},
        {"resources": {"requests": {"cpu": "5"}}},
        {"podLabels": {"team": "a"}},
        {"commonLabels": {"team": "a"}},
        {"run": {"activeDeadlineSeconds": 600}},
        {"metrics": {"port": 9500}},
    ],
    ids=str,
)
def test_what_cannot_be_changed_in_place_changes_the_name(kind: str, change: Any) -> None:
    assert name(kind, change) != name(kind)


@pytest.mark.parametrize("kind", ["PyTorchJob", "TrainJob"])  # one object, and two
@pytest.mark.parametrize(
    "change",
    [
        {"run": {"suspend": True}},  # `false` again has to resume the same run
        {"run": {"replace": True}},
        {"run": {"keep": False}},
        {"podMonitor": {"enabled": True}},
        {"networkPolicy": {"enabled": True}},
        {"test": {"scrape": False}},
    ],
    ids=str,
)
def test_the_rest_leaves_it_alone(kind: str, change: Any) -> None:
    assert name(kind, change) == name(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_an_upgrade_on_a_newer_cluster_finds_the_same_run(kind: str) -> None:
    assert name(kind, is_upgrade=True, kube_version="v1.37.0") == name(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_newer_chart_alone_changes_no_pod(kind: str) -> None:
    labels = template_of(kind)["metadata"]["labels"]
    assert "helm.sh/chart" not in labels
    assert "app.kubernetes.io/version" not in labels
    assert run_of(kind)["metadata"]["labels"]["app.kubernetes.io/version"] == "0.1.0"


def test_long_names_leave_room_for_the_pods() -> None:
    named = find("PyTorchJob", {"nameOverride": "other"})["metadata"]
    assert named["name"].startswith("demo-other-")
    assert named["labels"]["app.kubernetes.io/name"] == "naics-train"  # by which runs are found
    longest = find("PyTorchJob", {"nameOverride": "x" * 60}, name="r" * 53)["metadata"]["name"]
    assert len(f"{longest}-worker-0-999") <= 63
    given = find("PyTorchJob", {"fullnameOverride": "mine"})["metadata"]["name"]
    assert given.rpartition("-")[0] == "mine"


def test_a_name_that_no_service_can_have_is_refused() -> None:
    message = refusal({}, name="1st")
    assert "fullnameOverride" in message
    assert "a letter first" in message


@pytest.mark.parametrize("kind", KINDS)
def test_all_that_a_live_run_needs_is_kept(kind: str) -> None:
    for item in objects(merged(ALL, {"kind": kind})):
        policy = item["metadata"].get("annotations", {}).get("helm.sh/resource-policy")
        assert policy == (None if hook(item) else "keep"), item["kind"]
    for item in objects(merged(ALL, {"kind": kind, "run": {"keep": False}})):
        assert "helm.sh/resource-policy" not in item["metadata"].get("annotations", {})


@pytest.mark.parametrize("kind", KINDS)
def test_every_object_has_the_releases_labels(kind: str) -> None:
    values = merged(ALL, {"kind": kind, "commonLabels": {"team": "a"}})
    for item in objects(values):
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "demo"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["team"] == "a"
        assert item["metadata"]["namespace"] == "training"
