"""Manifests out of a chart: a `helm` on the PATH is asked, and its words are passed on."""

import os
import sys
from pathlib import Path

import pytest

from naics_job.errors import ConfigError
from naics_job.kube.manifests import Source, read_manifests

HELM = f"""#!{sys.executable}
import sys, yaml
if sys.argv[1] == "version":
    print("VERSION+g1")
    sys.exit()
from helm_python import Chart
_, _, release, chart, *options = sys.argv
values = {{}}
for option, value in zip(options[::2], options[1::2]):
    if option == "--values":
        values.update(yaml.safe_load(open(value)))
    if option == "--set":
        values.update([value.split("=")])
try:
    made = Chart.load(chart).render(values, name=release, namespace="ml")
except Exception as error:
    sys.exit(f"Error: {{error}}")
print("\\n---\\n".join(made.values()))
"""
TEMPLATE = """apiVersion: batch/v1
kind: Job
metadata: {name: {{ .Release.Name }}-{{ required "size is missing" .Values.size }}}
spec: {template: {spec: {containers: [{name: pytorch, image: i}]}}}
"""


@pytest.fixture
def chart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A chart of one Job, and a stand-in for helm that renders with Helm's own library."""
    folder = tmp_path / "chart"
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text("apiVersion: v2\nname: demo\nversion: 0.1.0\n")
    (folder / "templates" / "job.yaml").write_text(TEMPLATE)
    put_helm(tmp_path, "v3.14.0")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return folder


def put_helm(folder: Path, version: str) -> None:
    (folder / "helm").write_text(HELM.replace("VERSION", version))
    (folder / "helm").chmod(0o755)


def test_the_chart_is_rendered_with_values(chart: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("size: small\n")
    found = read_manifests(Source(chart=str(chart), values=[str(tmp_path / "mine.yaml")]))
    assert found.job["metadata"]["name"] == "naics-train-small"
    found = read_manifests(Source(chart=str(chart), helm_set=["size=big"]))
    assert found.job["metadata"]["name"] == "naics-train-big"


def test_what_helm_refuses_is_said(chart: Path) -> None:
    with pytest.raises(ConfigError, match="size is missing"):
        read_manifests(Source(chart=str(chart)))


def test_a_helm_that_is_too_old(chart: Path, tmp_path: Path) -> None:
    put_helm(tmp_path, "v3.2.1")
    with pytest.raises(ConfigError, match="too old"):
        read_manifests(Source(chart=str(chart)))


def test_no_helm_at_all(chart: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ConfigError, match="no helm on the PATH"):
        read_manifests(Source(chart=str(chart)))


def test_a_folder_without_a_chart(chart: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no chart"):
        read_manifests(Source(chart=str(tmp_path)))


def test_without_chart_and_manifest(chart: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to make a run from"):
        read_manifests(Source())
    (tmp_path / "k8s").mkdir()
    (tmp_path / "k8s" / "pytorchjob.yaml").write_text(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\nspec: {}"
    )
    assert read_manifests(Source()).source == "k8s/pytorchjob.yaml"


def test_a_manifest_and_a_chart_are_one_too_many(chart: Path) -> None:
    with pytest.raises(ConfigError, match="both given"):
        read_manifests(Source(manifest="a.yaml", chart=str(chart)))


def test_a_manifest_that_is_not_there(chart: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.yaml") as failure:
        read_manifests(Source(manifest="nothing.yaml"))
    assert failure.value.exit_code == 78
