"""Change the manifests of a run as a command was told: image, settings, configuration file."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from naics_job.config.load import load_config, packaged_conf
from naics_job.errors import ConfigError
from naics_job.kube.kinds import dig
from naics_job.kube.manifests import Manifests
from naics_job.kube.paths import Json

KEY = "config.yaml"  # of the ConfigMap
IMAGE_VARIABLE = "NAICS_IMAGE"
COMMANDS = ("train", "train-seq")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
CONFIG_MAP_LIMIT = 1024 * 1024


@dataclass(frozen=True)
class Edits:
    """What to change; None and empty leave the manifests as they are."""

    image: str | None = None
    tag: str | None = None
    settings: Sequence[str] = ()  # KEY=VALUE
    config: str | None = None  # path of a settings file
    check: bool = True  # the settings, against those that this version knows

    @property
    def any(self) -> bool:
        """Whether anything is to be changed."""
        return bool(self.image or self.tag or self.settings or self.config)


def apply_edits(manifests: Manifests, edits: Edits) -> None:
    """Change the documents in place, and check the settings they lead to.

    Raises:
        ConfigError: a setting is wrong, or there is no place for a change.
    """
    containers = list(_containers(manifests))
    if not containers:
        hint = f"the container that trains is called {manifests.kind.container}"
        raise ConfigError(f"{manifests.source} has no container that trains", hint)
    for container in containers:
        _set_image(container, edits)
        _append_settings(container, edits.settings)
    if edits.config is not None:
        _config_map(manifests)["data"][KEY] = _file_text(edits.config)
    for document in manifests.documents:
        if document["kind"] == "ConfigMap":
            _check_size(document)
    if edits.check:
        _check_settings(manifests, containers[0], edits.config)


def _containers(manifests: Manifests) -> Iterator[Json]:
    """The places of image and args, one per pod template."""
    spec = manifests.job["spec"]
    if manifests.kind.name == "PyTorchJob":
        templates = [each["template"] for each in spec["pytorchReplicaSpecs"].values()]
    elif manifests.kind.name == "TrainJob":
        templates = list(_runtime_templates(manifests))
        if not templates:  # a runtime of the cluster: the TrainJob can still say what to run in it
            yield spec.setdefault("trainer", {})
    elif manifests.kind.name == "JobSet":
        templates = [each["template"]["spec"]["template"] for each in spec["replicatedJobs"]]
    else:
        templates = [spec["template"]]
    for template in templates:
        for container in dig(template, "spec", "containers") or []:
            if container.get("name") == manifests.kind.container:
                yield container


def _runtime_templates(manifests: Manifests) -> Iterator[Json]:
    """The pod templates of the runtime that the manifests bring for their TrainJob."""
    for document in manifests.documents:
        jobs = dig(document, "spec", "template", "spec", "replicatedJobs") or []
        if document["kind"] in ("TrainingRuntime", "ClusterTrainingRuntime"):
            for job in jobs:
                yield dig(job, "template", "spec", "template") or {}


def _set_image(container: Json, edits: Edits) -> None:
    if edits.image is None and edits.tag is None:
        return
    image = edits.image or str(container.get("image", ""))
    if edits.tag is not None:
        if not TAG.fullmatch(edits.tag):
            hint = "a tag has letters, digits, '.', '_' and '-', at most 128 of them"
            raise ConfigError(f"--tag {edits.tag!r} is no tag", hint)
        image = f"{_repository(image)}:{edits.tag}"
    container["image"] = image
    for variable in container.get("env") or []:
        if variable.get("name") == IMAGE_VARIABLE and "value" in variable:
            variable["value"] = image


def _repository(image: str) -> str:
    """The reference without tag and digest; the port of a registry is no tag."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def _append_settings(container: Json, settings: Sequence[str]) -> None:
    for setting in settings:
        if "=" not in setting:
            hint = "write for example --set data_loader.batch_size=16"
            raise ConfigError(f"--set {setting!r} is not KEY=VALUE", hint)
    if settings:
        args = container.get("args") or []
        if not any(command in args for command in COMMANDS):
            hint = "write args as: launch ... -- train --config ... [KEY=VALUE ...]"
            raise ConfigError("--set: the container's args have no train command", hint)
        container["args"] = [*args, *settings]


def _config_map(manifests: Manifests) -> Json:
    for document in manifests.documents:
        if document["kind"] == "ConfigMap" and KEY in (document.get("data") or {}):
            return document
    hint = f"the manifest needs a ConfigMap with the key {KEY}, mounted for the container"
    raise ConfigError(f"--config: {manifests.source} has no ConfigMap with {KEY}", hint)


def _file_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path} cannot be read: {error}", "give a YAML file") from error


def _check_size(document: Json) -> None:
    content = [*(document.get("data") or {}).items(), *(document.get("binaryData") or {}).items()]
    size = sum(len(key.encode()) + len(str(value).encode()) for key, value in content)
    if size > CONFIG_MAP_LIMIT:
        name = document["metadata"]["name"]
        raise ConfigError(
            f"ConfigMap {name} holds {size:,} bytes; the API server takes {CONFIG_MAP_LIMIT:,}",
            "keep settings only in it; put data into the bucket",
        )


def _check_settings(manifests: Manifests, container: Json, file: str | None) -> None:
    """Load the settings as the container will, so that a wrong one is refused here."""
    words = [str(each) for each in container.get("args") or []]
    start = next((words.index(each) for each in COMMANDS if each in words), None)
    if start is None:
        return
    rest = words[start + 1 :]
    settings = [each for each in rest if "=" in each and not each.startswith("-")]
    profile = rest[rest.index("--profile") + 1] if "--profile" in rest[:-1] else None
    if file is not None:
        load_config(Path(file), profile, settings)
        return
    maps = [each for each in manifests.documents if dig(each, "data", KEY) is not None]
    if not maps:
        load_config(packaged_conf(), profile, settings)
        return
    with TemporaryDirectory(prefix="naics-config-") as folder:
        copy = Path(folder) / KEY
        copy.write_text(maps[0]["data"][KEY], encoding="utf-8")
        name = f"ConfigMap {maps[0]['metadata']['name']}"
        load_config(copy, profile, settings, base_url=name)
