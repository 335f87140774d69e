"""What is made from the chart is what the chart makes, and builds what it should."""

import json
import re
import subprocess
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

import custom_resources
import pod_security
import pytest
import yaml
from helm_chart import CHART, LOADER, ROOT, load_yaml, merged, pod_templates
from scripts import load_script

from naics_job.config.load import load_config

OVERLAYS = ("cpu-smoke", "gpu-2x8")


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    return load_script(".ci/chart.py")


def built(folder: str) -> list[dict[str, Any]]:
    """The objects of a kustomization, built by kubectl."""
    kubectl = Path(sysconfig.get_path("scripts")) / "kubectl"
    command = [str(kubectl), "kustomize", str(ROOT / "k8s" / folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return list(yaml.load_all(done.stdout, Loader=LOADER))


def test_the_table_of_values_is_todays(maker: ModuleType) -> None:
    [(path, text)] = maker.readme().items()
    assert path.read_text() == text


def test_the_manifests_are_todays(maker: ModuleType) -> None:
    files = maker.manifests()
    written = {path for path in (ROOT / "k8s").rglob("*.yaml") if "dev" not in path.parts}
    assert set(files) == written
    assert {path: path.read_text() for path in files} == files


def test_a_change_of_the_chart_is_noticed(maker: ModuleType, tmp_path: Path) -> None:
    changed = tmp_path / "values.yaml"
    changed.write_text("nodes: 3\n")
    assert maker.rendered(changed) != maker.rendered(maker.VALUES / "base.yaml")


def test_every_value_is_told_about(maker: ModuleType) -> None:
    told = {key for key, _, _ in maker.value_rows()}
    values = yaml.load((CHART / "values.yaml").read_text(), Loader=LOADER)

    def untold(part: Any, path: str) -> list[str]:
        if path in told:
            return []
        if not isinstance(part, dict):
            return [path]
        return [k for key, value in part.items() for k in untold(value, f"{path}.{key}".strip("."))]

    assert untold(values, "") == []


def test_the_base_is_the_single_file_and_what_it_may_go_without() -> None:
    base = {(item["kind"], item["metadata"]["name"]): item for item in built("base")}
    text = (ROOT / "k8s" / "pytorchjob.yaml").read_text()
    for item in yaml.load_all(text, Loader=LOADER):
        assert base.pop((item["kind"], item["metadata"]["name"])) == item
    assert {kind for kind, _ in base} == {"PodMonitor", "NetworkPolicy"}


def test_the_single_file_has_one_bucket_to_edit() -> None:
    text = (ROOT / "k8s" / "pytorchjob.yaml").read_text()
    assert set(re.findall(r"s3://([^/]+)/", text)) == {"change-me-bucket"}
    assert "helm.sh/" not in text
    assert "kind: Secret\n" not in text


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_makes_what_the_chart_makes(maker: ModuleType, name: str) -> None:
    def by_name(items: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
        for item in items:
            if item["kind"] == "ConfigMap":  # kustomize drops the line end at the end of a patch
                item["data"] = {key: text.rstrip("\n") for key, text in item["data"].items()}
        return {(item["kind"], item["metadata"]["name"]): item for item in items}

    expected = maker.rendered(maker.VALUES / f"overlay-{name}.yaml")
    items = [item for item in built(f"overlays/{name}") if item["kind"] != "Namespace"]
    assert by_name(items) == by_name(expected)


@pytest.mark.parametrize("folder", ["base", *(f"overlays/{name}" for name in OVERLAYS)])
def test_what_is_built_is_valid(folder: str, tmp_path: Path) -> None:
    items = built(folder)
    pods = [pod for item in items for pod in pod_templates(item)]
    assert [pod_security.violations(pod) for pod in pods] == [[]]
    custom = [item for item in items if item["kind"] in custom_resources.FILES]
    assert [custom_resources.violations(item) for item in custom] == [[], []]
    [config] = [item for item in items if item["kind"] == "ConfigMap"]
    settings = tmp_path / "config.yaml"
    written = load_yaml(config["data"]["config.yaml"])
    settings.write_text(json.dumps(written))
    assert load_config(settings).config.dirs.checkpoint_dir.startswith("s3://")
    [namespace] = [item for item in items if item["kind"] == "Namespace"]
    enforced = namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    assert enforced == "restricted"


def test_values_merge_as_in_the_harness(maker: ModuleType) -> None:
    one, two = {"a": {"b": 1, "c": [1]}, "d": 2}, {"a": {"c": [2]}, "e": {}}
    assert maker._merged(one, two) == merged(one, two) == {"a": {"b": 1, "c": [2]}, "d": 2, "e": {}}
