"""Submitting: from a manifest to objects on the cluster, once, and nothing when it is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_kube import FakeKube

from naics_job.errors import ConfigError
from naics_job.kube.api import Cluster
from naics_job.kube.edits import Edits, apply_edits
from naics_job.kube.failures import ApiError, ConflictError
from naics_job.kube.manifests import Manifests, Source, read_manifests
from naics_job.kube.naming import name_run
from naics_job.kube.submit import submit

MANIFEST = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: naics-train}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: naics-train-0a1b2c3d, labels: {naics.dev/run: naics-train-0a1b2c3d}}
immutable: true
data:
  config.yaml: |
    experiment_name: naics-train
    seed: 7
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: naics-train-0a1b2c3d, labels: {naics.dev/run: naics-train-0a1b2c3d}}
rules:
  - {apiGroups: [kubeflow.org], resources: [pytorchjobs], verbs: [get],
     resourceNames: [naics-train-0a1b2c3d]}
---
apiVersion: kubeflow.org/v1
kind: PyTorchJob
metadata:
  name: naics-train-0a1b2c3d
  labels: {app.kubernetes.io/name: naics-train, naics.dev/run: naics-train-0a1b2c3d}
spec:
  nprocPerNode: "1"
  pytorchReplicaSpecs:
    Worker:
      replicas: 2
      template:
        metadata: {labels: {naics.dev/run: naics-train-0a1b2c3d}}
        spec:
          serviceAccountName: naics-train
          containers:
            - name: pytorch
              image: registry:5000/naics/train:1.0
              args: [launch, --rdzv-endpoint, "naics-train-0a1b2c3d-worker-0:29400", --,
                     train, --config, /etc/naics/config.yaml, --ckpt-path, auto]
              env:
                - {name: NAICS_JOB_NAME, value: naics-train-0a1b2c3d}
                - {name: NAICS_IMAGE, value: "registry:5000/naics/train:1.0"}
          volumes:
            - {name: config, configMap: {name: naics-train-0a1b2c3d}}
"""
Say = Callable[[str], None]
JOBS = "pytorchjobs"
VERSION = "kubeflow.org/v1"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(MANIFEST)
    return path


def made(
    manifest: Path, name: str | None = None, run_id: str | None = None, **edits: Any
) -> Manifests:
    changes = Edits(**edits)
    found = read_manifests(Source(str(manifest)))
    apply_edits(found, changes)
    name_run(found, name, run_id, changes.any)
    return found


def container_of(found: Manifests) -> Any:
    return found.job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]


def test_a_run_is_created_after_what_it_needs_and_owns_it(
    cluster: Cluster, kube: FakeKube, manifest: Path
) -> None:
    done = submit(cluster, made(manifest), print)
    assert done.created
    created = [
        path for method, path, query in kube.requests if method == "POST" and "dryRun" not in query
    ]
    assert [path.rpartition("/")[2] for path in created] == [
        "serviceaccounts",
        "configmaps",
        "roles",
        JOBS,
    ]
    owners = kube.one("configmaps", "naics-train-0a1b2c3d")["metadata"]["ownerReferences"]
    assert owners[0]["uid"] == done.job["metadata"]["uid"]
    assert "ownerReferences" not in kube.one("serviceaccounts", "naics-train")["metadata"]


def test_the_same_content_is_the_same_run(cluster: Cluster, kube: FakeKube, manifest: Path) -> None:
    told: list[str] = []
    first = submit(cluster, made(manifest, tag="2.0"), print)
    second = submit(cluster, made(manifest, tag="2.0"), told.append)
    assert first.created
    assert not second.created
    assert first.job["metadata"]["uid"] == second.job["metadata"]["uid"]
    assert "attached" in told[-1]


@pytest.mark.parametrize("change", [{"tag": "3"}, {"settings": ["seed=8"]}, {"run_id": "42"}])
def test_other_content_is_another_run(change: dict[str, Any], manifest: Path) -> None:
    names = {made(manifest, **each).job["metadata"]["name"] for each in ({"tag": "2"}, change)}
    assert len(names) == 2
    assert "naics-train-0a1b2c3d" not in names


def test_an_untouched_manifest_keeps_its_name(manifest: Path) -> None:
    """So that `kubectl apply`, `helm install` and `job submit` mean one run."""
    assert made(manifest).job["metadata"]["name"] == "naics-train-0a1b2c3d"


def test_the_name_is_changed_where_it_stands_for_the_run_only(manifest: Path) -> None:
    found = made(manifest, name="mine")
    text = yaml.safe_dump(found.documents)
    assert "naics-train-0a1b2c3d" not in text
    assert container_of(found)["args"][2] == "mine-worker-0:29400"
    account, config_map, *_ = found.documents
    assert account["metadata"]["name"] == "naics-train"
    assert config_map["metadata"]["name"] == "mine"
    assert "experiment_name: naics-train" in config_map["data"]["config.yaml"]
    assert found.job["metadata"]["labels"]["app.kubernetes.io/name"] == "naics-train"


def test_one_name_for_two_contents_is_refused(cluster: Cluster, manifest: Path) -> None:
    submit(cluster, made(manifest, name="mine"), print)
    with pytest.raises(ConflictError, match="mine exists with other content"):
        submit(cluster, made(manifest, name="mine", tag="2"), print)


@pytest.mark.parametrize("name", ["Big", "-x", "x" * 53, "1st"])
def test_what_cannot_be_a_name(name: str, manifest: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be the name"):
        made(manifest, name=name)


def test_image_and_settings_reach_the_container(manifest: Path) -> None:
    found = made(manifest, tag="2.0", settings=["training.learning_rate=1e-4"])
    container = container_of(found)
    assert container["image"] == "registry:5000/naics/train:2.0"
    assert container["env"][1]["value"] == "registry:5000/naics/train:2.0"
    assert container["args"][-1] == "training.learning_rate=1e-4"


def test_a_tag_replaces_a_digest(manifest: Path) -> None:
    found = made(manifest, image="r:5000/a@sha256:" + "0" * 64, tag="3")
    assert container_of(found)["image"] == "r:5000/a:3"


def test_a_settings_file_replaces_the_one_of_the_config_map(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("seed: 9\n")
    found = made(manifest, config=str(tmp_path / "mine.yaml"))
    assert found.documents[1]["data"]["config.yaml"] == "seed: 9\n"


@pytest.mark.parametrize(
    ("edits", "text", "message"),
    [
        ({}, "seeed: 9\n", "seeed"),
        ({"settings": ["loss.temprature=1"]}, "seed: 9\n", "loss.temprature"),
        ({"settings": ["seed=-1"]}, "seed: 9\n", "seed=-1"),
        ({"settings": ["nothing"]}, "seed: 9\n", "not KEY=VALUE"),
        ({"tag": "a b"}, "seed: 9\n", "no tag"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_sent(
    edits: dict[str, Any], text: str, message: str, manifest: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message) as failure:
        made(manifest, config=str(tmp_path / "mine.yaml"), **edits)
    assert failure.value.exit_code == 78


def test_settings_of_the_manifest_are_checked_too(manifest: Path) -> None:
    manifest.write_text(MANIFEST.replace("seed: 7", "sed: 7"))
    with pytest.raises(ConfigError, match="sed"):
        made(manifest)


def test_a_config_map_that_is_too_big(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("seed: 9\n# " + "x" * 1024 * 1024)
    with pytest.raises(ConfigError, match="1,048,576"):
        made(manifest, config=str(tmp_path / "mine.yaml"))


REFUSALS = {
    JOBS: [
        ((403, "Forbidden", 'User "ci" cannot create resource "pytorchjobs"'), "Role"),
        ((403, "Forbidden", "exceeded quota: gpu, requested: 2"), "quota"),
        ((403, "Forbidden", 'violates PodSecurity "restricted:latest"'), "Pod Security"),
        ((422, "Invalid", "spec.replicas: must be at least 1"), "field"),
    ],
    "configmaps": [((413, "RequestEntityTooLarge", "too large"), "1 MiB")],
}


@pytest.mark.parametrize(
    ("plural", "refusal", "hint"),
    [(plural, *each) for plural, several in REFUSALS.items() for each in several],
)
def test_what_the_server_refuses_leaves_nothing_behind(
    plural: str, refusal: Any, hint: str, cluster: Cluster, kube: FakeKube, manifest: Path
) -> None:
    kube.refusals["POST", plural] = refusal
    with pytest.raises(ApiError, match=refusal[2][:12]) as failure:
        submit(cluster, made(manifest), print)
    assert hint in failure.value.hint
    assert failure.value.exit_code == 78
    assert not any(kube.objects.values())


def test_a_kind_that_is_not_installed(cluster: Cluster, kube: FakeKube, manifest: Path) -> None:
    kube.unknown.add(JOBS)
    with pytest.raises(ApiError, match="does not know PyTorchJob") as failure:
        submit(cluster, made(manifest), print)
    assert "training operator" in failure.value.hint
    assert not any(kube.objects.values())


def test_warnings_of_admission_are_shown(cluster: Cluster, kube: FakeKube, manifest: Path) -> None:
    kube.warnings[JOBS] = ['would violate PodSecurity "restricted"']
    told: list[str] = []
    submit(cluster, made(manifest), told.append)
    assert any("would violate PodSecurity" in line for line in told)


def test_an_answer_that_is_lost_does_not_make_a_second_run(
    cluster: Cluster, kube: FakeKube, manifest: Path
) -> None:
    real = kube.put

    def put(plural: str, found: Any, namespace: str = "ml") -> Any:
        kept = real(plural, found, namespace)
        if plural == JOBS and ("any", "reset") not in kube.faults:
            kube.put = real  # type: ignore[method-assign]
            raise ConnectionResetError  # the handler dies: the client sees a closed connection
        return kept

    kube.put = put  # type: ignore[method-assign]
    done = submit(cluster, made(manifest), print)
    assert not done.created
    assert (
        kube.one(JOBS, "naics-train-0a1b2c3d", VERSION)["metadata"]["uid"]
        == done.job["metadata"]["uid"]
    )


def test_a_cancelled_run_goes_on_only_when_asked(
    cluster: Cluster, kube: FakeKube, manifest: Path
) -> None:
    job = submit(cluster, made(manifest), print).job
    job["metadata"]["annotations"]["naics.dev/cancelled"] = "2026-01-01T00:00:00+00:00"
    job["spec"]["runPolicy"] = {"suspend": True}
    kube.put(JOBS, job)
    told: list[str] = []
    assert submit(cluster, made(manifest), told.append).job["spec"]["runPolicy"]["suspend"]
    assert "--resume" in told[-1]
    again = submit(cluster, made(manifest), told.append, resume=True).job
    assert again["spec"]["runPolicy"]["suspend"] is False
    assert "naics.dev/cancelled" not in again["metadata"]["annotations"]


def test_a_manifest_for_another_namespace(cluster: Cluster, manifest: Path) -> None:
    manifest.write_text(
        MANIFEST.replace("{name: naics-train}", "{name: naics-train, namespace: a}")
    )
    with pytest.raises(ApiError, match="namespace a, not ml"):
        submit(cluster, made(manifest), print)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML"),
        ("just text", "no Kubernetes object"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}", "0 runs"),
        (MANIFEST + "\n---\n" + MANIFEST, "2 runs"),
    ],
)
def test_what_is_no_manifest_of_a_run(text: str, message: str, manifest: Path) -> None:
    manifest.write_text(text)
    with pytest.raises(ConfigError, match=message):
        made(manifest)


def test_hooks_of_a_chart_are_not_submitted(manifest: Path) -> None:
    hook = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: t, annotations: {helm.sh/hook: test}}"
    manifest.write_text(f"{MANIFEST}\n---\n{hook}")
    assert [each["kind"] for each in made(manifest).documents][-1] == "PyTorchJob"
