"""templates/_container.tpl: image, command line, environment and ports of a run's container."""

from typing import Any

import pytest
from helm_chart import KINDS, container_of, find, run_of

pytestmark = pytest.mark.parametrize("kind", KINDS)
HOSTS = {
    "PyTorchJob": "{run}-worker-0",
    "TrainJob": "{run}-node-0-0.{run}",
    "JobSet": "{run}-worker-0-0.{run}",
    "Job": "{run}-0.{run}",
}


def environment(kind: str, values: dict[str, Any] | None = None) -> dict[str, Any]:
    entries = container_of(kind, values or {})["env"]
    assert len({entry["name"] for entry in entries}) == len(entries)
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in entries}


def test_the_command_line_is_the_contract(kind: str) -> None:
    values = {"nodes": 2, "gpu": {"count": 4}, "overrides": ["a.b=1", "c=[x, y]"]}
    run = run_of(kind, values)["metadata"]["name"]
    transient = ["--transient-exit-code", "203"] if kind == "PyTorchJob" else []
    assert container_of(kind, values)["args"] == [
        *("launch", "--nnodes", "2", "--nproc-per-node", "4"),
        *("--rdzv-endpoint", f"{HOSTS[kind].format(run=run)}:29400", *transient, "--", "train"),
        *("--config", "/etc/naics/config.yaml", "--ckpt-path", "auto", "a.b=1", "c=[x, y]"),
    ]


def test_the_images_entrypoint_stays(kind: str) -> None:
    assert "command" not in container_of(kind)
    assert "train-seq" in container_of(kind, {"command": "train-seq"})["args"]


def test_the_container_has_the_name_the_kind_asks_for(kind: str) -> None:
    assert container_of(kind)["name"] == ("node" if kind == "TrainJob" else "pytorch")


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({}, "naics-train:0.1.0-cuda"),
        ({"repository": "r.example:5000/a/b", "tag": "v1"}, "r.example:5000/a/b:v1"),
        ({"digest": f"sha256:{'0' * 64}", "tag": "v1"}, f"naics-train@sha256:{'0' * 64}"),
    ],
    ids=["default", "tag", "digest"],
)
def test_the_image_is_the_values(kind: str, image: dict[str, str], expected: str) -> None:
    values = {"image": {**image, "pullPolicy": "Always"}}
    assert container_of(kind, values)["image"] == expected
    assert container_of(kind, values)["imagePullPolicy"] == "Always"
    assert environment(kind, values)["NAICS_IMAGE"] == expected


def test_the_run_knows_what_it_is(kind: str) -> None:
    run = run_of(kind)
    found = environment(kind)
    assert found["NAICS_JOB_NAME"] == run["metadata"]["name"]
    assert (found["NAICS_JOB_KIND"], found["NAICS_JOB_API_VERSION"]) == (kind, run["apiVersion"])
    assert found["NAICS_POD_NAME"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert found["NAICS_NAMESPACE"] == {"fieldRef": {"fieldPath": "metadata.namespace"}}


def test_keys_come_from_the_secret_and_never_from_values(kind: str) -> None:
    s3 = {"existingSecret": "keys", "endpointUrl": "http://s3:9000", "region": "eu-west-1"}
    found = environment(kind, {"s3": s3})
    assert (found["AWS_ENDPOINT_URL"], found["AWS_REGION"]) == ("http://s3:9000", "eu-west-1")
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        optional = key == "AWS_SESSION_TOKEN"
        reference = {"name": "keys", "key": key, "optional": optional}
        assert found[key] == {"secretKeyRef": reference}
    assert not [key for key in environment(kind) if key.startswith("AWS_")]


def test_more_environment_is_passed_on(kind: str) -> None:
    values = {
        "extraEnv": [{"name": "NCCL_DEBUG", "value": "INFO"}],
        "extraEnvFrom": [{"secretRef": {"name": "more"}}],
    }
    assert environment(kind, values)["NCCL_DEBUG"] == "INFO"
    assert container_of(kind, values)["envFrom"] == values["extraEnvFrom"]


def test_gpus_are_a_limit_and_a_process_each(kind: str) -> None:
    values = {"gpu": {"count": 2, "resource": "amd.com/gpu"}}
    container = container_of(kind, values)
    assert container["resources"]["limits"]["amd.com/gpu"] == "2"
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {port["protocol"] for port in container["ports"]} == {"TCP"}
    assert ports == {"pytorchjob-port": 29400, "metrics-0": 9400, "metrics-1": 9401}


def test_quantities_are_text(kind: str) -> None:
    """Server-side apply of older clusters takes no number for a quantity."""
    own: dict[str, Any] = {"rdma/hca": 1, "cpu": 8}
    values = {"resources": {"requests": own, "limits": {"rdma/hca": 1}}}
    resources = container_of(kind, values)["resources"]
    assert resources["requests"] == {"cpu": "8", "memory": "16Gi", "rdma/hca": "1"}
    assert resources["limits"] == {"memory": "16Gi", "nvidia.com/gpu": "1", "rdma/hca": "1"}


def test_without_gpus_none_is_asked_for(kind: str) -> None:
    values = {"gpu": {"count": 0}, "image": {"flavor": "cpu"}, "nprocPerNode": 3}
    container = container_of(kind, values)
    assert set(container["resources"]["limits"]) == {"memory"}
    assert "3" in container["args"]
    assert container["image"] == "naics-train:0.1.0-cpu"


def test_mounts_are_where_the_image_looks(kind: str) -> None:
    extra = {"name": "more", "mountPath": "/mnt", "readOnly": True}
    values = {"extraVolumes": [{"name": "more", "emptyDir": {}}], "extraVolumeMounts": [extra]}
    mounts = container_of(kind, values)["volumeMounts"]
    places = {entry["name"]: entry["mountPath"] for entry in mounts}
    own = {"config": "/etc/naics", "shm": "/dev/shm", "scratch": "/scratch"}
    assert places == {**own, "more": "/mnt"}
    assert set(find("ConfigMap", values)["data"]) == {"config.yaml"}
