"""Where the manifests of a run come from: a file or URL, or the chart, rendered by helm."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from naics_job.errors import ConfigError, DataError
from naics_job.kube.kinds import KINDS, TRAINER, Kind, is_hook, kind_of
from naics_job.kube.paths import Json
from naics_job.storage.files import read_bytes

CHART = Path("helm") / "naics-train"
MANIFEST = Path("k8s") / "pytorchjob.yaml"
OLDEST_HELM = (3, 8)
HELM_TIMEOUT_S = 120.0
SOURCES = (
    f"give --manifest FILE, or --chart FOLDER with helm on the PATH; in a folder with {CHART} or "
    f"{MANIFEST} neither is needed"
)


@dataclass(frozen=True)
class Source:
    """What a command was told about where manifests come from."""

    manifest: str | None = None
    chart: str | None = None
    values: Sequence[str] = ()
    helm_set: Sequence[str] = ()
    namespace: str = "default"


@dataclass
class Manifests:
    """The documents of a run: one of them is the run itself, the others are what it needs."""

    documents: list[Json]
    job: Json
    kind: Kind
    source: str


def read_manifests(source: Source) -> Manifests:
    """Read or render the documents of a run; hooks and tests of the chart are left out.

    Raises:
        ConfigError: there is no source, it cannot be rendered, or holds no run or several.
    """
    name, text = _text(source)
    try:
        found = [each for each in yaml.safe_load_all(text) if each is not None]
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{name} is not valid YAML: {reason}", "mend the syntax") from error
    documents = [each for each in _flat(found, name) if not is_hook(each)]
    runs = [(each, kind) for each in documents if (kind := kind_of(each)) is not None]
    if len(runs) != 1:
        kinds = ", ".join(f"{kind.name} ({kind.api_version})" for kind in KINDS.values())
        raise ConfigError(
            f"{name} holds {len(runs)} runs, expected one", f"a run is one object of: {kinds}"
        )
    return Manifests(documents, *runs[0], name)


def _text(source: Source) -> tuple[str, str]:
    if source.manifest is not None:
        if source.chart or source.values or source.helm_set:
            hint = "leave out either --manifest or the options of the chart"
            raise ConfigError("--manifest and a chart are both given", hint)
        return source.manifest, _read(source.manifest)
    wants_chart = bool(source.chart or source.values or source.helm_set)
    helm = shutil.which("helm")
    chart = Path(source.chart) if source.chart else CHART
    if wants_chart or (helm and (chart / "Chart.yaml").is_file()):
        return str(chart), _rendered(helm, chart, source)
    if MANIFEST.is_file():
        return str(MANIFEST), _read(str(MANIFEST))
    raise ConfigError("there is nothing to make a run from", SOURCES)


def _read(url: str) -> str:
    try:
        return read_bytes(url).decode()
    except DataError as error:
        raise ConfigError(f"--manifest: {error.args[0]}", error.hint) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{url} is not UTF-8 text", "give a YAML file") from error


def _rendered(helm: str | None, chart: Path, source: Source) -> str:
    if helm is None:
        hint = "install helm 3.8 or newer, or give --manifest FILE rendered elsewhere"
        raise ConfigError("the chart cannot be rendered: no helm on the PATH", hint)
    if not (chart / "Chart.yaml").is_file():
        hint = "give --chart the folder that holds Chart.yaml"
        raise ConfigError(f"{chart} is no chart: it has no Chart.yaml", hint)
    _check_version(helm)
    command = [helm, "template", TRAINER, str(chart), "--namespace", source.namespace]
    for file in source.values:
        command += ["--values", file]
    for setting in source.helm_set:
        command += ["--set", setting]
    return _helm(command, "correct the value that helm names; the chart's README lists them")


def _check_version(helm: str) -> None:
    text = _helm([helm, "version", "--short"], "check the installation of helm")
    numbers = re.search(r"v(\d+)\.(\d+)", text)
    if numbers is None or tuple(map(int, numbers.groups())) < OLDEST_HELM:
        hint = "install helm 3.8 or newer, or give --manifest FILE rendered elsewhere"
        raise ConfigError(f"helm is {text.strip() or 'of an unknown version'}: too old", hint)


def _helm(command: Sequence[str], hint: str) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=HELM_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{command[0]} cannot be run: {error}", hint) from error
    if done.returncode != 0:
        words = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise ConfigError(f"helm {command[1]}: {words}", hint)
    return done.stdout


def _flat(found: Sequence[Any], name: str) -> list[Json]:
    documents: list[Json] = []
    for each in found:
        if not isinstance(each, dict) or not each.get("kind") or not each.get("apiVersion"):
            hint = "each document needs apiVersion, kind and metadata"
            raise ConfigError(f"{name} holds what is no Kubernetes object", hint)
        documents += _flat(each["items"], name) if each["kind"] == "List" else [each]
    return documents
