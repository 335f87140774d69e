"""What an API server with a custom resource definition would say of an object.

The definition's schema is turned into JSON Schema. Fields that the server would drop without a word
are refused. Rules in CEL are not evaluated.
"""

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema

FOLDER = Path(__file__).parent / "crds"
FILES = {
    "PyTorchJob": "kubeflow.org_pytorchjobs.json",
    "TrainJob": "trainer.kubeflow.org_trainjobs.json",
    "TrainingRuntime": "trainer.kubeflow.org_trainingruntimes.json",
    "PodMonitor": "monitoring.coreos.com_podmonitors.json",
}
INTEGERS = {"int32": 2**31, "int64": 2**63}
ENVELOPE = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {}}

Schema = dict[str, Any]


def violations(item: Mapping[str, Any]) -> list[str]:
    """What is wrong with an object of a kind of `FILES`, or with a JobSet."""
    kind = str(item["kind"])
    if kind == "JobSet":  # its definition is not at hand, but a runtime holds its specification
        runtime = _definition("TrainingRuntime")["schema"]["properties"]["spec"]["properties"]
        return _problems("JobSet", runtime["template"]["properties"]["spec"], item["spec"], "spec")
    version = _definition(kind)
    expected = f"{version['group']}/{version['name']}"
    if item["apiVersion"] != expected:
        return [f"apiVersion: {item['apiVersion']} is not {expected}"]
    return _problems(kind, version["schema"], item, "")


@functools.cache
def _definition(kind: str) -> Schema:
    """The stored version of a kind: its name, group and schema, the envelope included."""
    spec = json.loads((FOLDER / FILES[kind]).read_text())["spec"]
    [version] = [entry for entry in spec["versions"] if entry["storage"]]
    schema = version["schema"]["openAPIV3Schema"]
    schema["properties"] |= ENVELOPE
    schema["required"] = [*ENVELOPE, "spec"]
    return {"name": version["name"], "group": spec["group"], "schema": schema}


def _problems(name: str, schema: Schema, value: Any, path: str) -> list[str]:
    found = [
        f"{'.'.join([path, *map(str, error.absolute_path)]).strip('.')}: {error.message[:200]}"
        for error in _validator(name, json.dumps(schema)).iter_errors(value)
    ]
    return found + list(_repeated(schema, value, path))


@functools.cache
def _validator(name: str, schema: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(_to_json_schema(json.loads(schema)))


def _to_json_schema(node: Schema, closed: bool = True) -> Schema:
    """Translate one node. `closed`: fields it does not name are an error."""
    result = {
        key: value
        for key, value in node.items()
        if key in ("enum", "required", "minimum", "maximum", "minLength", "maxLength", "minItems",
                   "maxItems", "minProperties", "maxProperties")
    }  # fmt: skip
    if "pattern" in node:
        result["pattern"] = node["pattern"].replace("^(?i)", "(?i)^")  # Go allows both orders
    if node.get("x-kubernetes-int-or-string"):
        result["type"] = ["integer", "string"]
    elif "type" in node:
        result["type"] = [node["type"], "null"] if node.get("nullable") else node["type"]
    if limit := INTEGERS.get(node.get("format", "")):
        result |= {"minimum": max(-limit, result.get("minimum", -limit)),
                   "maximum": min(limit - 1, result.get("maximum", limit))}  # fmt: skip
    for key in ("allOf", "anyOf", "oneOf"):
        if key in node and not node.get("x-kubernetes-int-or-string"):
            result[key] = [_to_json_schema(part, closed=False) for part in node[key]]
    if "not" in node:
        result["not"] = _to_json_schema(node["not"], closed=False)
    if "items" in node:
        result["items"] = _to_json_schema(node["items"], closed)
    if node.get("x-kubernetes-list-type") == "set":
        result["uniqueItems"] = True
    return result | _fields(node, closed)


def _fields(node: Schema, closed: bool) -> Schema:
    """The part of a schema about an object's fields."""
    named = dict(node.get("properties", {}))
    if node.get("x-kubernetes-embedded-resource"):
        named |= ENVELOPE
    result: Schema = {}
    if named:
        result["properties"] = {key: _to_json_schema(part, closed) for key, part in named.items()}
    rest = node.get("additionalProperties")
    if isinstance(rest, dict):
        result["additionalProperties"] = _to_json_schema(rest, closed)
    elif closed and named and not node.get("x-kubernetes-preserve-unknown-fields"):
        result["additionalProperties"] = False
    return result


def _repeated(schema: Schema, value: Any, path: str) -> Iterator[str]:
    """Entries of keyed lists that share their key, which JSON Schema cannot say."""
    if isinstance(value, Mapping):
        named, rest = schema.get("properties", {}), schema.get("additionalProperties")
        for key, part in value.items():
            below = named.get(key, rest)
            if isinstance(below, dict):
                yield from _repeated(below, part, f"{path}.{key}".strip("."))
    elif isinstance(value, list):
        entry = schema.get("items", {})
        keys = schema.get("x-kubernetes-list-map-keys", ())
        defaults = {key: entry.get("properties", {}).get(key, {}).get("default") for key in keys}
        seen = [tuple(part.get(key, defaults[key]) for key in keys) for part in value if keys]
        yield from (f"{path}: {key} twice" for key in sorted(set(seen), key=str)
                    if seen.count(key) > 1)  # fmt: skip
        for index, part in enumerate(value):
            yield from _repeated(entry, part, f"{path}.{index}")
