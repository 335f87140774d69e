"""Every example, as each kind: accepted by helm, Kubernetes, the operators and the pod profile."""

import itertools
from typing import Any

import custom_resources
import helm_python as helm
import kubernetes_validate
import pod_security
import pytest
from helm_chart import (
    BASE,
    CHART,
    EXAMPLES,
    KINDS,
    example,
    hook,
    load_yaml,
    loaded,
    merged,
    objects,
    pod_templates,
    render,
)
from kubernetes_validate import utils

OLDEST, NEWEST = "1.26", "1.37"
CUSTOM = {*custom_resources.FILES, "JobSet"}
ALL: dict[str, Any] = {
    "run": {"replace": True},
    "events": {"enabled": True},
    "networkPolicy": {"enabled": True},
    "podMonitor": {"enabled": True},
    "test": {"enabled": True},
}
cases = pytest.mark.parametrize(("name", "kind"), list(itertools.product(EXAMPLES, KINDS)))


def full(name: str, kind: str) -> dict[str, Any]:
    """An example as another kind, with everything on that the kind can do."""
    gang = {"scheduler": "" if kind in ("Job", "JobSet") else "volcano", "queue": ""}
    return merged(example(name), ALL, {"kind": kind, "gang": gang})


@pytest.fixture(scope="module", autouse=True)
def _schemas_read_once() -> Any:
    """The validator reads its 2 MB of definitions for every object."""
    with pytest.MonkeyPatch.context() as patch:
        cache: dict[tuple[str, str], Any] = {}
        read = utils.schema_contents

        def contents(filename: str, version: str) -> Any:
            if (filename, version) not in cache:
                cache[filename, version] = read(filename, version)
            return cache[filename, version]

        patch.setattr(utils, "schema_contents", contents)
        yield


@pytest.mark.parametrize("name", EXAMPLES)
def test_helm_lints_and_installs_it(name: str) -> None:
    report = helm.lint(CHART, merged(BASE, example(name)), strict=True)
    assert [entry for entry in report["messages"] if entry["severity"] > 1] == []
    assert report["errors"] == []
    release = helm.Config().install(loaded(), "demo", example(name), dry_run="client")
    installed = [load_yaml(part) for part in release["manifest"].split("\n---\n") if part.strip()]
    shown = {(i["kind"], i["metadata"]["name"]) for i in objects(example(name)) if not hook(i)}
    assert {(item["kind"], item["metadata"]["name"]) for item in installed if item} == shown


@cases
def test_operators_take_its_objects(name: str, kind: str) -> None:
    custom = [item for item in objects(full(name, kind)) if item["kind"] in CUSTOM]
    assert len(custom) == {"TrainJob": 3, "Job": 1}.get(kind, 2)  # a PodMonitor among them
    assert {item["kind"]: custom_resources.violations(item) for item in custom} == {
        item["kind"]: [] for item in custom
    }


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("name", ["ddp-2x8", "minio"])
def test_kubernetes_takes_the_rest(name: str, version: str) -> None:
    items = objects(full(name, "Job"), kube_version=f"v{version}.0")
    own = [item for item in items if item["kind"] not in CUSTOM]
    for item in own:  # a kind without a schema raises
        assert kubernetes_validate.validate(item, version, strict=True) == version
    assert {item["kind"] for item in own} == {
        *("ConfigMap", "Job", "NetworkPolicy", "Pod", "Role", "RoleBinding", "Service"),
        "ServiceAccount",
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_takes_the_pods_of_every_kind(kind: str, version: str) -> None:
    for item in objects(full("ddp-2x8", kind)):
        for template in pod_templates(item):
            pod = {"apiVersion": "v1", "kind": "Pod", **template}
            kubernetes_validate.validate(pod, version, strict=True)


@cases
def test_every_pod_fits_the_restricted_profile(name: str, kind: str) -> None:
    items = objects(full(name, kind))
    pods = [(item["kind"], pod) for item in items for pod in pod_templates(item)]
    assert len(pods) == 3  # the run's, the test's, the hook's
    for owner, pod in pods:
        assert pod_security.violations(pod) == [], owner


def test_the_chart_asks_for_the_oldest_version_tested() -> None:
    assert loaded().metadata["kubeVersion"] == f">={OLDEST}.0-0"


@pytest.mark.parametrize("name", ["ddp-2x8"])
def test_rendering_needs_no_capability_of_a_cluster(name: str) -> None:
    plain = render(example(name), kube_version="v1.26.0")
    known = ["monitoring.coreos.com/v1", "kubeflow.org/v1/PyTorchJob", "jobset.x-k8s.io/v1alpha2"]
    assert render(example(name), kube_version="v1.37.0", api_versions=known) == plain
