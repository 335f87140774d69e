"""The chart as tests see it: values in, objects or the refusal out, without a cluster."""

import functools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

os.environ.setdefault("GOGC", "400")  # helm is Go, and collects its garbage half of the time

import helm_python as helm
from helm_python import _native

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "naics-train"
EXAMPLES = sorted(path.stem for path in (CHART / "examples").glob("*.yaml"))
KINDS = ("PyTorchJob", "TrainJob", "JobSet", "Job")
BASE: dict[str, Any] = {"s3": {"bucket": "my-bucket"}}  # the only value that has no default
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Manifest = dict[str, Any]


@functools.cache
def loaded() -> helm.Chart:
    """The chart, read once."""
    return helm.Chart.load(CHART)


def load_yaml(text: str) -> Any:
    """Parse one document of YAML."""
    return yaml.load(text, Loader=LOADER)


def merged(*layers: Mapping[str, Any]) -> Manifest:
    """Merge values as helm does with several files: maps by key, the rest replaced."""
    result: Manifest = {}
    for layer in layers:
        for key, value in layer.items():
            old = result.get(key)
            both = isinstance(old, Mapping) and isinstance(value, Mapping)
            result[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return result


@functools.cache
def example(name: str) -> Manifest:
    """Values of an example."""
    values: Manifest = load_yaml((CHART / "examples" / f"{name}.yaml").read_text())
    return values


def render(
    values: Mapping[str, Any] = {},
    *,
    chart: helm.Chart | None = None,
    name: str = "demo",
    kube_version: str = "v1.31.0",
    api_versions: Sequence[str] = (),
    is_upgrade: bool = False,
) -> dict[str, str]:
    """Render every template, hooks and notes too; `values` are laid over `BASE`.

    Only the private call takes the versions of a cluster, which is why the package is pinned.
    """
    options = {
        "name": name,
        "namespace": "training",
        "kube_version": kube_version,
        "api_versions": list(api_versions),
        "is_upgrade": is_upgrade,
        "is_install": not is_upgrade,
    }
    given = json.dumps(merged(BASE, values), sort_keys=True)
    if chart is None:
        return dict(_rendered(given, json.dumps(options)))
    return _call(chart, given, json.dumps(options))


@functools.lru_cache(maxsize=1024)
def _rendered(values: str, options: str) -> dict[str, str]:
    return _call(loaded(), values, options)


def _call(chart: helm.Chart, values: str, options: str) -> dict[str, str]:
    text = _native.call_string("helm_render", chart._raw(), values, options)
    prefix = f"{CHART.name}/templates/"
    return {path.removeprefix(prefix): body for path, body in json.loads(text).items()}


def objects(values: Mapping[str, Any] = {}, **options: Any) -> list[Manifest]:
    """The objects of a rendering, those of hooks and of the test too. Not to be changed."""
    return list(_parsed(json.dumps(values, sort_keys=True), json.dumps(options)))


@functools.lru_cache(maxsize=1024)
def _parsed(values: str, options: str) -> tuple[Manifest, ...]:
    texts = render(json.loads(values), **json.loads(options))
    bodies = [text for path, text in texts.items() if not path.endswith(".txt") and text.strip()]
    return tuple(load_yaml(body) for body in bodies)


def find(kind: str, values: Mapping[str, Any] = {}, **options: Any) -> Manifest:
    """The only object of a kind that is no hook."""
    items = objects(values, **options)
    [found] = [item for item in items if item["kind"] == kind and not hook(item)]
    return found


def hook(item: Manifest) -> str | None:
    """What a hook waits for; None of an object that is part of the release."""
    value: str | None = item["metadata"].get("annotations", {}).get("helm.sh/hook")
    return value


def run_of(kind: str, values: Mapping[str, Any] = {}) -> Manifest:
    """The object of a run of that kind."""
    return find(kind, merged(values, {"kind": kind}))


def template_of(kind: str, values: Mapping[str, Any] = {}) -> Manifest:
    """The pod template of a run of that kind."""
    carrier = "TrainingRuntime" if kind == "TrainJob" else kind
    [template] = pod_templates(find(carrier, merged(values, {"kind": kind})))
    return template


def container_of(kind: str, values: Mapping[str, Any] = {}) -> Manifest:
    """The training container of a run of that kind."""
    [container] = template_of(kind, values)["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def pod_templates(item: Any) -> Iterator[Manifest]:
    """Every pod in an object: the object itself, or the templates anywhere below."""
    if isinstance(item, Mapping):
        if "spec" in item and "containers" in (item["spec"] or {}):
            yield dict(item)
        else:
            for value in item.values():
                yield from pod_templates(value)
    elif isinstance(item, list):
        for value in item:
            yield from pod_templates(value)


def refusal(values: Mapping[str, Any], **options: Any) -> str:
    """What rendering says when it refuses the values."""
    try:
        render(values, **options)
    except helm.HelmError as error:
        return str(error)
    raise AssertionError(f"these values were accepted: {values}")
