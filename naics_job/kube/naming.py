"""The name of a run follows from its content, so that the same run has the same name again.

`naics-train-1a2b3c4d`: 8 digits of a digest over the manifests, and over a run id where one is
given to tell repetitions apart. Everything that carries the old name gets the new one.
"""

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

from naics_job.errors import ConfigError
from naics_job.kube.kinds import CONTENT, JOBSET_NAME, KINDS, RUN
from naics_job.kube.manifests import Manifests
from naics_job.kube.paths import Json

DIGEST = re.compile(r"-[0-9a-f]{8}$")
LONGEST = 52  # "-worker-123" follows in names of pods, which have 63 characters at most
NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
RUN_LABELS = (RUN, JOBSET_NAME, *(kind.pod_label for kind in KINDS.values()))
REFERENCES = ("configMap", "configMapRef", "configMapKeyRef", "runtimeRef", "roleRef")
NETWORK = ("subdomain", "serviceName")
ENDPOINT = "--rdzv-endpoint"


def name_run(manifests: Manifests, name: str | None, run_id: str | None, changed: bool) -> str:
    """Give the run its name and note the digest of its content; returns the name.

    Args:
        manifests: are changed in place.
        name: used as it is when given.
        run_id: tells runs of the same content apart.
        changed: whether the manifests are other than their source wrote them. If not, a name that
            ends with a digest is kept: it is the chart's own.

    Raises:
        ConfigError: the name cannot be that of a run.
    """
    old = str(manifests.job["metadata"].get("name") or "")
    digest = content_digest(manifests, run_id)
    kept = not changed and run_id is None and DIGEST.search(old)
    if name is None:
        name = old if kept else f"{DIGEST.sub('', old)[: LONGEST - 9].rstrip('-')}-{digest[:8]}"
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        expected = f"lower-case letters, digits and '-', a letter first, at most {LONGEST}"
        raise ConfigError(f"{name!r} cannot be the name of a run", f"use {expected}")
    rename(manifests, old, name)
    meta = manifests.job["metadata"]
    meta.setdefault("labels", {})[RUN] = name
    meta.setdefault("annotations", {})[CONTENT] = digest
    return name


def content_digest(manifests: Manifests, run_id: str | None) -> str:
    """The sha256 of the documents in one order, and of the run id."""
    texts = sorted(json.dumps(each, sort_keys=True) for each in manifests.documents)
    return hashlib.sha256("\n".join([*texts, run_id or ""]).encode()).hexdigest()


def rename(manifests: Manifests, old: str, new: str) -> None:
    """Replace the name of the run wherever it stands for the run, and only there."""
    word = re.compile(rf"(?<![a-z0-9-]){re.escape(old)}(?![a-z0-9])")
    for document in manifests.documents:
        if document is manifests.job or _belongs(document, old):
            meta = document["metadata"]
            meta["name"] = new + str(meta["name"])[len(old) :]
        _walk(document, lambda key, value: _renamed(key, value, word, new))


def _belongs(document: Json, old: str) -> bool:
    meta = document.get("metadata") or {}
    name = str(meta.get("name", ""))
    own = (meta.get("labels") or {}).get(RUN) == old or document["kind"] == "ConfigMap"
    return own and re.match(rf"{re.escape(old)}(-|$)", name) is not None


def _renamed(key: str, value: Any, word: re.Pattern[str], new: str) -> Any:
    """What becomes of `value` below `key`."""
    if isinstance(value, list):
        return [_renamed_item(key, value, index, word, new) for index in range(len(value))]
    if key in RUN_LABELS and word.fullmatch(str(value)):
        return new
    if key in REFERENCES and isinstance(value, dict) and isinstance(value.get("name"), str):
        return value | {"name": _start(value["name"], word, new)}
    return _start(value, word, new) if key in NETWORK and isinstance(value, str) else value


def _renamed_item(
    key: str, values: list[Any], index: int, word: re.Pattern[str], new: str
) -> Any:  # fmt: skip
    """What becomes of one value of the list below `key`."""
    item = values[index]
    if key == "resourceNames" and word.fullmatch(str(item)):
        return new
    if key == "args":
        before = values[index - 1] if index else ""
        endpoint = before == ENDPOINT or str(item).startswith(f"{ENDPOINT}=")
        return word.sub(new, item) if endpoint else item
    if key == "env" and isinstance(item, dict) and word.fullmatch(str(item.get("value", ""))):
        return item | {"value": new}
    return item


def _start(text: str, word: re.Pattern[str], new: str) -> str:
    match = word.match(text)
    return new + text[match.end() :] if match else text


def _walk(value: Any, change: Callable[[str, Any], Any]) -> None:
    """Replace every value of every mapping by `change(key, value)`, outside first."""
    if isinstance(value, dict):
        for key in value:
            value[key] = change(key, value[key])
            _walk(value[key], change)
    elif isinstance(value, list):
        for each in value:
            _walk(each, change)
