"""Write what is made from the chart: the table of values in its README, and k8s/.

`chart.py` writes, `--check` compares instead and fails on a difference. k8s/base is the chart's
rendering with .ci/k8s/base.yaml, an overlay is what differs from it with the values of the overlay,
and k8s/pytorchjob.yaml is the base in one file.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import helm_python as helm
import yaml

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "helm" / "naics-train"
VALUES = ROOT / ".ci" / "k8s"
K8S = ROOT / "k8s"
RUN = "naics-train-1"
MARKS = ("<!-- values: made by `make manifests` -->", "<!-- end of values -->")
FILES = {
    "ServiceAccount": "serviceaccount.yaml",
    "ConfigMap": "configmap.yaml",
    "PyTorchJob": "pytorchjob.yaml",
    "Role": "rbac.yaml",
    "RoleBinding": "rbac.yaml",
    "PodMonitor": "podmonitor.yaml",
    "NetworkPolicy": "networkpolicy.yaml",
}
HELM_LABELS = ("helm.sh/chart", "app.kubernetes.io/managed-by")
MADE = "# Rendered from helm/naics-train by `make manifests`: change that or .ci/k8s, not this.\n"
LONG = "# yamllint disable rule:line-length\n"  # paths of patches
USE = """\
# Two pods of one GPU each, with what they need but the bucket and the image naics-train, which the
# nodes must hold or pull from a registry you name. For a run of your own:
#
#   sed -i s/change-me-bucket/my-bucket/ k8s/pytorchjob.yaml
#   kubectl apply -f k8s/pytorchjob.yaml
#
# Access to the bucket: the role of the pods, or a Secret naics-s3 in the namespace naics with
# AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for a service other than Amazon's, AWS_ENDPOINT_URL.
# A running run is never changed in place. For another one, rename it everywhere in this file:
#
#   sed -i s/naics-train-1/naics-train-2/ k8s/pytorchjob.yaml
"""

Manifest = dict[str, Any]
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read(text: str) -> Any:
    """Parse one document of YAML."""
    return yaml.load(text, Loader=LOADER)


class _Dumper(yaml.SafeDumper):
    """YAML as this repository writes it: indented lists, texts of several lines as blocks."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        del indentless
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def dump(*items: Any) -> str:
    """Write documents as YAML."""
    return yaml.dump_all(items, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)


# --- the table of values


def value_rows() -> Iterator[tuple[str, str, str]]:
    """Key, default and meaning of every value, in the order of values.yaml."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    defaults = read(text)
    comment: list[str] = []
    path: list[tuple[int, str]] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# --"):
            comment = [stripped.removeprefix("# --").strip()]
        elif stripped.startswith("#") and comment:
            comment.append(stripped.removeprefix("#").strip())
        elif match := re.match(r"^( *)([A-Za-z0-9_-]+):", line):
            depth = len(match[1])
            path = [(indent, key) for indent, key in path if indent < depth] + [(depth, match[2])]
            if comment:
                keys = [key for _, key in path]
                yield ".".join(keys), json.dumps(_at(defaults, keys)), " ".join(comment)
            comment = []


def _at(values: Any, keys: list[str]) -> Any:
    for key in keys:
        values = values[key]
    return values


def readme() -> dict[Path, str]:
    """The chart's README with today's table of values."""
    path = CHART / "README.md"
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    rows = [f"| `{key}` | `{default}` | {meaning} |" for key, default, meaning in value_rows()]
    table = "\n".join(["| value | default | meaning |", "|---|---|---|", *rows])
    return {path: f"{before}{MARKS[0]}\n{table}\n{MARKS[1]}{after}"}


# --- k8s/


def rendered(values: Path) -> list[Manifest]:
    """The chart's objects without hooks and without what only helm reads, under fixed names."""
    base = read((VALUES / "base.yaml").read_text(encoding="utf-8"))
    own = read(values.read_text(encoding="utf-8"))
    with helm.Chart.load(CHART) as chart:
        texts = chart.render(_merged(base, own), name="naics-train", namespace="naics")
    bodies = [text for path, text in texts.items() if not path.endswith(".txt") and text.strip()]
    items = [read(body) for body in bodies]
    [config] = [item for item in items if item["kind"] == "ConfigMap"]
    hashed = config["metadata"]["name"]
    return [_plain(json.loads(json.dumps(item).replace(hashed, RUN))) for item in items]


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Manifest:
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = _merged(old, value) if both else value  # type: ignore[arg-type]
    return result


def _plain(item: Manifest) -> Manifest:
    metadata = item["metadata"]
    for label in HELM_LABELS:
        metadata["labels"].pop(label, None)
    noted = metadata.pop("annotations", {}).items()
    if kept := {key: value for key, value in noted if not key.startswith("helm.sh/")}:
        metadata["annotations"] = kept
    return item


def manifests() -> dict[Path, str]:
    """Every file of k8s/ that is made from the chart."""
    namespace = read((VALUES / "namespace.yaml").read_text(encoding="utf-8"))
    base = rendered(VALUES / "base.yaml")
    files: dict[str, list[Manifest]] = {"namespace.yaml": [namespace]}
    for kind, name in FILES.items():
        files.setdefault(name, []).extend(item for item in base if item["kind"] == kind)
    listing = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
               "resources": list(files)}  # fmt: skip
    written = {K8S / "base" / name: MADE + dump(*items) for name, items in files.items()}
    written[K8S / "base" / "kustomization.yaml"] = MADE + dump(listing)
    needed = ("ServiceAccount", "Role", "RoleBinding", "ConfigMap", "PyTorchJob")
    single = [item for kind in needed for item in base if item["kind"] == kind]
    written[K8S / "pytorchjob.yaml"] = MADE + USE + dump(namespace, *single)
    for values in sorted(VALUES.glob("overlay-*.yaml")):
        folder = K8S / "overlays" / values.stem.removeprefix("overlay-")
        body = dump(_overlay(base, rendered(values)))
        written[folder / "kustomization.yaml"] = MADE + LONG + body
    return written


def _overlay(base: list[Manifest], wanted: list[Manifest]) -> Manifest:
    """A kustomization that makes the objects `wanted` of those of the base."""
    patches = []
    for old, new in zip(base, wanted, strict=True):
        if steps := list(_steps(old, new, "")):
            target = {"kind": old["kind"], "name": old["metadata"]["name"]}
            patches.append({"target": target, "patch": dump(steps)})
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["../../base"],
        "patches": patches,
    }


def _steps(old: Any, new: Any, path: str) -> Iterator[Manifest]:
    """The JSON patch that turns `old` into `new`."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            where = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
            if key not in new:
                yield {"op": "remove", "path": where}
            elif key not in old:
                yield {"op": "add", "path": where, "value": new[key]}
            else:
                yield from _steps(old[key], new[key], where)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _steps(before, after, f"{path}/{index}")
    elif old != new:
        yield {"op": "replace", "path": path, "value": new}


def main() -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail on a difference")
    options = parser.parse_args()
    files = readme() | manifests()
    stale = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if options.check:
            print(f"{path.relative_to(ROOT)} is not what the chart makes", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path], encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    if stale and options.check:
        print("  hint: run `make manifests` and commit the result", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
