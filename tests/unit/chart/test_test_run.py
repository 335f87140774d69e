"""templates/tests/test-run.yaml: what `helm test` starts."""

import itertools
from typing import Any

import pytest
from helm_chart import KINDS, container_of, find, hook, merged, objects, render


def check(values: dict[str, Any] | None = None) -> dict[str, Any]:
    [pod] = [item for item in objects(values or {}) if hook(item) == "test"]
    return pod


def arguments(values: dict[str, Any] | None = None) -> list[str]:
    [container] = check(values)["spec"]["containers"]
    found: list[str] = container["args"]
    return found


def test_it_reads_the_settings_of_the_run() -> None:
    pod = check({"overrides": ["seed=1"]})
    [container] = pod["spec"]["containers"]
    assert container["args"][:4] == ["job", "check", "--config", "/etc/naics/config.yaml"]
    assert container["args"][-1] == "seed=1"
    [volume] = [entry for entry in pod["spec"]["volumes"] if entry["name"] == "config"]
    assert (
        volume["configMap"]["name"]
        == find("ConfigMap", {"overrides": ["seed=1"]})["metadata"]["name"]
    )


@pytest.mark.parametrize(
    ("kind", "host"),
    [
        ("PyTorchJob", "{run}-worker-{node}"),
        ("TrainJob", "{run}-node-0-{node}.{run}"),
        ("JobSet", "{run}-worker-0-{node}.{run}"),
        ("Job", "{run}-{node}.{run}"),
    ],
)
def test_it_scrapes_every_process_of_every_pod(kind: str, host: str) -> None:
    values = {"kind": kind, "nodes": 2, "gpu": {"count": 2}}
    run = find("ConfigMap", values)["metadata"]["name"]
    given = arguments(values)
    urls = [value for flag, value in itertools.pairwise(given) if flag == "--metrics"]
    assert urls == [
        f"http://{host.format(run=run, node=node)}:{port}/metrics"
        for node in (0, 1)
        for port in (9400, 9401)
    ]
    assert given[given.index("--ranks") + 1] == "4"
    assert given[given.index("--timeout") + 1] == "270"  # so that it can tell what it waited for


def test_the_scrape_may_be_left_out() -> None:
    for values in ({"test": {"scrape": False}}, {"metrics": {"enabled": False}}):
        assert "--metrics" not in arguments(values)
        assert "--ranks" not in arguments(values)


@pytest.mark.parametrize("kind", KINDS)
def test_it_reaches_s3_as_the_run_does(kind: str) -> None:
    values = {
        "kind": kind,
        "s3": {"existingSecret": "keys", "endpointUrl": "http://s3:9000", "region": "eu-west-1"},
        "extraEnv": [{"name": "AWS_CA_BUNDLE", "value": "/etc/ca"}],
        "extraEnvFrom": [{"secretRef": {"name": "more"}}],
    }
    [container] = check(values)["spec"]["containers"]
    training = container_of(kind, values)
    own = [entry for entry in training["env"] if entry["name"].startswith("AWS_")]
    assert own == [entry for entry in container["env"] if entry["name"].startswith("AWS_")]
    assert container["envFrom"] == training["envFrom"]
    assert check(values)["spec"]["serviceAccountName"] == "demo-naics-train"


def test_it_is_removed_when_it_succeeds_and_ends_in_any_case() -> None:
    pod = check({"test": {"timeoutSeconds": 90}})
    notes = pod["metadata"]["annotations"]
    assert notes["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    assert "helm.sh/resource-policy" not in notes
    assert pod["spec"]["activeDeadlineSeconds"] == 90
    assert pod["spec"]["restartPolicy"] == "Never"


def test_it_has_no_token_and_no_sidecar() -> None:
    pod = check(merged({"istioInject": True}, {"events": {"enabled": True}}))
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"


def test_it_may_be_left_out() -> None:
    assert render({"test": {"enabled": False}})["tests/test-run.yaml"].strip() == ""
