"""k8s/dev/s3.yaml and skaffold.yaml: what `make dev` uses."""

import subprocess
from typing import Any

import kubernetes_validate
import pod_security
import pytest
import yaml
from helm_chart import BASE, CHART, LOADER, ROOT, example, load_yaml, merged, pod_templates, render
from s3_server import find_weed

S3 = list(yaml.load_all((ROOT / "k8s" / "dev" / "s3.yaml").read_text(), Loader=LOADER))
SKAFFOLD = load_yaml((ROOT / "skaffold.yaml").read_text())
# Fields of skaffold/v4beta11 as its published schema names them.
FIELDS = {
    "": {"apiVersion", "kind", "metadata", "build", "manifests", "deploy", "profiles"},
    "build": {"artifacts", "tagPolicy", "local"},
    "build.artifacts": {"image", "context", "docker"},
    "build.artifacts.docker": {"dockerfile", "buildArgs", "target"},
    "build.local": {"push", "useBuildkit"},
    "deploy": {"statusCheck", "helm", "kubectl"},
    "deploy.helm": {"flags", "hooks", "releases"},
    "manifests": {"helm"},
    "manifests.helm": {"flags", "releases"},
    "profiles": {"name", "activation", "patches", "build", "manifests", "deploy"},
}
RELEASE = {"name", "chartPath", "namespace", "createNamespace", "valuesFiles", "setValues",
           "setValueTemplates", "skipTests"}  # fmt: skip


def of_kind(kind: str) -> dict[str, Any]:
    [found] = [item for item in S3 if item["kind"] == kind]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("version", ["1.26", "1.37"])
def test_the_server_is_valid_and_restricted(version: str) -> None:
    for item in S3:
        kubernetes_validate.validate(item, version, strict=True)
    [pod] = [pod for item in S3 for pod in pod_templates(item)]
    assert pod_security.violations(pod) == []


def test_the_smoke_example_finds_the_server() -> None:
    s3 = example("cpu-smoke")["s3"]
    service, secret = of_kind("Service"), of_kind("Secret")
    port = service["spec"]["ports"][0]["port"]
    assert s3["endpointUrl"] == f"http://{service['metadata']['name']}:{port}"
    assert s3["existingSecret"] == secret["metadata"]["name"]
    assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} == set(secret["stringData"])
    [container] = of_kind("Deployment")["spec"]["template"]["spec"]["containers"]
    assert f"-bucket={s3['bucket']}" in container["args"]
    assert container["envFrom"] == [{"secretRef": {"name": secret["metadata"]["name"]}}]
    selector = service["spec"]["selector"].items()
    assert selector <= of_kind("Deployment")["spec"]["template"]["metadata"]["labels"].items()


def test_the_server_knows_its_options() -> None:
    [container] = of_kind("Deployment")["spec"]["template"]["spec"]["containers"]
    weed = find_weed()
    assert weed is not None
    done = subprocess.run([weed, "mini", "-h"], capture_output=True, text=True, check=False)
    known = {line.split()[0] for line in (done.stdout + done.stderr).splitlines() if "  -" in line}
    command, *options = container["args"]
    assert command == "mini"
    assert {option.partition("=")[0] for option in options} <= known
    version = subprocess.run([weed, "version"], capture_output=True, text=True, check=True)
    assert container["image"].rpartition(":")[2] in version.stdout  # the one the tests run


def test_skaffold_knows_the_fields() -> None:
    def check(part: dict[str, Any], path: str) -> None:
        for key, value in part.items():
            assert key in FIELDS.get(path, {key}), f"{path}.{key}"
            below = f"{path}.{key}".strip(".")
            for entry in value if isinstance(value, list) else [value]:
                if key == "releases":
                    assert set(entry) <= RELEASE
                elif isinstance(entry, dict) and below in FIELDS:
                    check(entry, below)

    assert SKAFFOLD["apiVersion"] == "skaffold/v4beta11"
    check({key: value for key, value in SKAFFOLD.items() if key != "profiles"}, "")
    for profile in SKAFFOLD["profiles"]:
        assert set(profile) <= FIELDS["profiles"]
        check({k: v for k, v in profile.items() if k in ("build", "manifests", "deploy")}, "")


@pytest.mark.parametrize("profile", [None, "dev", "gpu", "render"])
def test_skaffold_gives_the_chart_values_it_takes(profile: str | None) -> None:
    chosen = next((part for part in SKAFFOLD["profiles"] if part["name"] == profile), SKAFFOLD)
    section = chosen["manifests" if profile == "render" else "deploy"]
    [release] = section["helm"]["releases"]
    assert (ROOT / release["chartPath"]).samefile(CHART)
    values = merged(
        BASE, *(load_yaml((ROOT / file).read_text()) for file in release["valuesFiles"])
    )
    templates = {key: "placeholder" for key in release["setValueTemplates"]}
    for key, value in {**release.get("setValues", {}), **templates}.items():
        nested: Any = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        values = merged(values, nested)
    assert render(values)
    assert values["image"]["repository"] == "placeholder"
