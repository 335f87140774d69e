"""templates/_pod.tpl: the pod of a run, the same for every kind."""

from typing import Any

import pytest
from helm_chart import KINDS, find, merged, template_of

pytestmark = pytest.mark.parametrize("kind", KINDS)


def spec(kind: str, values: dict[str, Any] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = template_of(kind, values or {})["spec"]
    return found


def volume(kind: str, name: str, values: dict[str, Any] | None = None) -> dict[str, Any]:
    [found] = [entry for entry in spec(kind, values)["volumes"] if entry["name"] == name]
    assert isinstance(found, dict)
    return found


def test_ids_are_values_and_may_be_the_namespaces(kind: str) -> None:
    own = {"podSecurity": {"runAsUser": 1000, "runAsGroup": 0, "fsGroup": 3000}}
    context = spec(kind, own)["securityContext"]
    assert own["podSecurity"].items() <= context.items()
    free = {"podSecurity": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}}
    context = spec(kind, free)["securityContext"]
    assert not {"runAsUser", "runAsGroup", "fsGroup"} & context.keys()
    assert context["runAsNonRoot"] is True


def test_it_has_settings_memory_and_scratch(kind: str) -> None:
    run = find("ConfigMap", {"kind": kind})["metadata"]["name"]
    assert volume(kind, "config")["configMap"] == {"name": run}
    shm = {"medium": "Memory", "sizeLimit": "4Gi"}
    assert volume(kind, "shm", {"shm": {"size": "4Gi"}})["emptyDir"] == shm
    assert volume(kind, "scratch")["emptyDir"] == {"sizeLimit": "30Gi"}


def test_scratch_may_be_a_claim(kind: str) -> None:
    values = {"scratch": {"type": "ephemeral", "size": "1Ti", "storageClassName": "fast"}}
    claim = volume(kind, "scratch", values)["ephemeral"]["volumeClaimTemplate"]["spec"]
    assert claim["storageClassName"] == "fast"
    assert claim["resources"]["requests"]["storage"] == "1Ti"
    default = merged(values, {"scratch": {"storageClassName": ""}})
    claim = volume(kind, "scratch", default)["ephemeral"]["volumeClaimTemplate"]["spec"]
    assert "storageClassName" not in claim


def test_the_grace_period_is_that_of_the_settings_and_five_seconds(kind: str) -> None:
    assert spec(kind)["terminationGracePeriodSeconds"] == 30
    config = {"config": {"launch": {"grace_s": 54.5}}}
    assert spec(kind, config)["terminationGracePeriodSeconds"] == 60
    override = merged(config, {"overrides": ["launch.grace_s=100"]})
    assert spec(kind, override)["terminationGracePeriodSeconds"] == 105


def test_a_token_comes_with_events_only(kind: str) -> None:
    assert spec(kind)["automountServiceAccountToken"] is False
    assert spec(kind, {"events": {"enabled": True}})["automountServiceAccountToken"] is True


def test_scheduling_is_passed_on(kind: str) -> None:
    term = {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    values = {
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "affinity": {"nodeAffinity": required},
        "priorityClassName": "high",
        "runtimeClassName": "nvidia",
        "schedulerName": "volcano",
        "dnsPolicy": "Default",
    }
    found = spec(kind, values)
    assert {key: found[key] for key in values} == values
    assert not (values.keys() - {"dnsPolicy"}) & spec(kind).keys()


def test_pods_spread_among_those_of_the_run(kind: str) -> None:
    spread = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    values: dict[str, Any] = {"topologySpreadConstraints": [spread]}
    run = find("ConfigMap", merged({"kind": kind}, values))["metadata"]["name"]
    [found] = spec(kind, values)["topologySpreadConstraints"]
    assert found == {**spread, "labelSelector": {"matchLabels": {"naics.dev/run": run}}}
    own = {**spread, "labelSelector": {"matchLabels": {"a": "b"}}}
    assert spec(kind, {"topologySpreadConstraints": [own]})["topologySpreadConstraints"] == [own]


def test_pull_secrets_and_extra_volumes_are_passed_on(kind: str) -> None:
    extra = {"name": "more", "persistentVolumeClaim": {"claimName": "data"}}
    values = {"image": {"pullSecrets": ["a", "b"]}, "extraVolumes": [extra]}
    found = spec(kind, values)
    assert found["imagePullSecrets"] == [{"name": "a"}, {"name": "b"}]
    assert extra in found["volumes"]


@pytest.mark.parametrize("inject", [True, False])
def test_istio_is_told_in_both_its_ways(kind: str, inject: bool) -> None:
    metadata = template_of(kind, {"istioInject": inject})["metadata"]
    expected = "true" if inject else "false"
    assert metadata["labels"]["sidecar.istio.io/inject"] == expected
    assert metadata["annotations"]["sidecar.istio.io/inject"] == expected


def test_pods_carry_the_labels_and_annotations_asked_for(kind: str) -> None:
    values = {
        "podLabels": {"team": "a"},
        "podAnnotations": {"note": "x: y"},
        "commonLabels": {"cost": "7"},
        "commonAnnotations": {"owner": "me"},
    }
    metadata = template_of(kind, values)["metadata"]
    assert {"team": "a", "cost": "7", "app.kubernetes.io/component": "trainer"}.items() <= metadata[
        "labels"
    ].items()
    assert {"note": "x: y", "owner": "me"}.items() <= metadata["annotations"].items()
