"""Every value changes what is rendered, and every template has its tests."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_chart import CHART, LOADER, merged, render

JOB = {"kind": "Job"}
CPU = {"gpu": {"count": 0}, "image": {"flavor": "cpu"}}
MONITOR = {"podMonitor": {"enabled": True}}
BOARDS = {"dashboards": {"enabled": True}}
ALERTS = {"alerts": {"enabled": True}}
POLICY = {"networkPolicy": {"enabled": True}}
SPREAD = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
VOLUME = {"extraVolumes": [{"name": "more", "emptyDir": {}}]}

# another value of every key of values.yaml, and the values beside which it counts
CHANGES: dict[str, tuple[Any, dict[str, Any]]] = {
    "kind": ("Job", {}),
    "nameOverride": ("other", {}),
    "fullnameOverride": ("other", {}),
    "commonLabels": ({"team": "a"}, {}),
    "commonAnnotations": ({"team": "a"}, {}),
    "image.repository": ("registry.example/naics-train", {}),
    "image.tag": ("other", {}),
    "image.digest": (f"sha256:{'1' * 64}", {}),
    "image.flavor": ("cpu", CPU),
    "image.pullPolicy": ("Always", {}),
    "image.pullSecrets": (["other"], {}),
    "nodes": (2, {}),
    "gpu.count": (2, {}),
    "gpu.resource": ("amd.com/gpu", {}),
    "nprocPerNode": (2, CPU),
    "command": ("train-seq", {}),
    "config": ({"seed": 1}, {}),
    "overrides": (["seed=1"], {}),
    "s3.bucket": ("other", {}),
    "s3.prefix": ("other", {}),
    "s3.endpointUrl": ("https://s3.example", {}),
    "s3.region": ("eu-west-1", {}),
    "s3.existingSecret": ("other", {}),
    "serviceAccount.create": (False, {}),
    "serviceAccount.name": ("other", {}),
    "serviceAccount.annotations": ({"team": "a"}, {}),
    "resources.requests.cpu": ("5", {}),
    "resources.requests.memory": ("15Gi", {}),
    "resources.limits.memory": ("17Gi", {}),
    "shm.size": ("3Gi", {}),
    "scratch.type": ("ephemeral", {}),
    "scratch.size": ("31Gi", {}),
    "scratch.storageClassName": ("other", {"scratch": {"type": "ephemeral"}}),
    "run.keep": (False, {}),
    "run.replace": (True, {}),
    "run.maxRestarts": (3, JOB),
    "run.activeDeadlineSeconds": (600, {}),
    "run.ttlSecondsAfterFinished": (600, {}),
    "run.suspend": (True, {}),
    "gang.scheduler": ("volcano", {}),
    "gang.queue": ("other", {"gang": {"scheduler": "volcano"}}),
    "gang.timeoutSeconds": (9, {"gang": {"scheduler": "coscheduling"}}),
    "kueue.queue": ("other", {}),
    "kueue.priorityClass": ("other", {"kueue": {"queue": "a"}}),
    "podSecurity.runAsUser": (5, {}),
    "podSecurity.runAsGroup": (5, {}),
    "podSecurity.fsGroup": (5, {}),
    "podAnnotations": ({"team": "a"}, {}),
    "podLabels": ({"team": "a"}, {}),
    "istioInject": (True, {}),
    "nodeSelector": ({"pool": "gpu"}, {}),
    "tolerations": ([{"operator": "Exists"}], {}),
    "affinity": ({"podAffinity": {}}, {}),
    "topologySpreadConstraints": ([SPREAD], {}),
    "priorityClassName": ("other", {}),
    "runtimeClassName": ("other", {}),
    "schedulerName": ("other", {}),
    "dnsPolicy": ("Default", {}),
    "extraEnv": ([{"name": "A", "value": "1"}], {}),
    "extraEnvFrom": ([{"secretRef": {"name": "a"}}], {}),
    "extraVolumes": (VOLUME["extraVolumes"], {}),
    "extraVolumeMounts": ([{"name": "more", "mountPath": "/mnt"}], VOLUME),
    "metrics.enabled": (False, {}),
    "metrics.port": (9500, {}),
    "probes.startupSeconds": (60, {}),
    "probes.periodSeconds": (20, {}),
    "probes.timeoutSeconds": (6, {}),
    "probes.failureThreshold": (9, {}),
    "podMonitor.enabled": (True, {}),
    "podMonitor.labels": ({"release": "a"}, MONITOR),
    "podMonitor.interval": ("30s", MONITOR),
    "podMonitor.scrapeTimeout": ("5s", MONITOR),
    "dashboards.enabled": (True, {}),
    "dashboards.labels.grafana_dashboard": ("yes", BOARDS),
    "dashboards.annotations": ({"team": "a"}, BOARDS),
    "alerts.enabled": (True, {}),
    "alerts.labels": ({"release": "a"}, ALERTS),
    "alerts.runbookBaseUrl": ("https://git.example/", ALERTS),
    "networkPolicy.enabled": (True, {}),
    "networkPolicy.scrapeNamespaceLabels": ({"team": "a"}, POLICY),
    "networkPolicy.httpsCidrs": (["10.0.0.0/8"], POLICY),
    "networkPolicy.extraEgress": ([{"ports": [{"port": 1}]}], POLICY),
    "events.enabled": (True, {}),
    "test.enabled": (False, {}),
    "test.scrape": (False, {}),
    "test.timeoutSeconds": (90, {}),
}


def leaves(values: dict[str, Any], path: str = "") -> set[str]:
    """Keys of values.yaml that hold something other than a section; a map of labels is one."""
    found = set()
    for key, value in values.items():
        where = f"{path}.{key}".strip(".")
        section = isinstance(value, dict) and value and not where.endswith("Labels")
        found |= leaves(value, where) if section else {where}
    return found


def test_no_value_is_left_out() -> None:
    values = yaml.load((CHART / "values.yaml").read_text(), Loader=LOADER)
    assert set(CHANGES) == leaves(values)


@pytest.mark.parametrize("key", CHANGES)
def test_a_value_changes_the_rendering(key: str) -> None:
    value, beside = CHANGES[key]
    changed: Any = value
    for part in reversed(key.split(".")):
        changed = {part: changed}
    if key == "image.flavor":  # the default does not go with no GPU
        changed, beside = merged(CPU, changed), {}
    assert render(merged(beside, changed)) != render(beside)


def test_every_template_has_its_tests() -> None:
    folder = CHART / "templates"
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    stems = {path.stem.lower().lstrip("_").replace("-", "_") for path in paths}
    shared = {  # parts that the tests of others cover
        "cluster": "live_runs",
        "checks": "bad_values",
        "reserved": "bad_values",
        "config": "configmap",
        "kinds": "container",
        "helpers": "cancel_job",
    }
    expected = {f"test_{shared.get(stem, stem)}.py" for stem in stems}
    assert expected <= {path.name for path in Path(__file__).parent.glob("test_*.py")}


def test_templates_stay_small() -> None:
    for path in (CHART / "templates").rglob("*"):
        if path.is_file():
            assert len(path.read_text().splitlines()) <= 150, path.name
