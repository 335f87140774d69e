"""Values that would fail later are refused now, with the key and what to do."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_chart import ROOT, refusal, render

CPU: dict[str, Any] = {"gpu": {"count": 0}, "image": {"flavor": "cpu"}}
VOLUME = {"extraVolumes": [{"name": "more", "emptyDir": {}}]}

# values, the key that the message names, and what it says to do about it
SCHEMA: list[tuple[dict[str, Any], str, str]] = [
    ({"kind": "MPIJob"}, "/kind", "must be one of 'PyTorchJob', 'TrainJob', 'JobSet', 'Job'"),
    ({"knid": "Job"}, "knid", "not allowed"),
    ({"gpus": 2}, "gpus", "not allowed"),
    ({"gpu": {"cuont": 2}}, "/gpu", "'cuont' not allowed"),
    ({"gpu": {"count": -1}}, "/gpu/count", "want 0"),
    ({"gpu": {"count": 100}}, "/gpu/count", "want 64"),
    ({"gpu": {"count": "1"}}, "/gpu/count", "want integer"),
    ({"gpu": {"count": 0.5}}, "/gpu/count", "want integer"),
    ({"gpu": {"resource": "gpu"}}, "/gpu/resource", "does not match pattern"),
    ({"nodes": 0}, "/nodes", "want 1"),
    ({"nodes": None}, "nodes", "missing property"),
    ({"nprocPerNode": 0}, "/nprocPerNode", "want 1"),
    ({"command": "evaluate"}, "/command", "'train', 'train-seq'"),
    ({"config": "seed: 1"}, "/config", "want object"),
    ({"overrides": ["--seed 1"]}, "/overrides/0", "does not match pattern"),
    ({"overrides": {"seed": 1}}, "/overrides", "want array"),
    ({"image": {"flavor": "rocm"}}, "/image/flavor", "'cuda', 'cpu'"),
    ({"image": {"repository": "Naics Job"}}, "/image/repository", "does not match pattern"),
    ({"image": {"tag": "a:b"}}, "/image/tag", "does not match pattern"),
    ({"image": {"digest": "sha256:1"}}, "/image/digest", "[0-9a-f]{64}"),
    ({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy", "'IfNotPresent'"),
    ({"image": {"pullSecrets": [{"name": "a"}]}}, "/image/pullSecrets/0", "want string"),
    ({"s3": {"bucket": "s3://my-bucket"}}, "/s3/bucket", "does not match pattern"),
    ({"s3": {"bucket": "My_Bucket"}}, "/s3/bucket", "does not match pattern"),
    ({"s3": {"prefix": "/naics"}}, "/s3/prefix", "does not match pattern"),
    ({"s3": {"endpointUrl": "s3.example"}}, "/s3/endpointUrl", "https?://"),
    ({"s3": {"accessKey": "AKIA"}}, "/s3", "'accessKey' not allowed"),
    ({"resources": {"limits": {"memory": "10Gx"}}}, "/resources/limits/memory", "Ki|Mi|Gi"),
    ({"resources": {"limits": {"memory": None}}}, "/resources/limits", "missing property 'memory'"),
    ({"resources": {"requests": {"cpu": "two"}}}, "/resources/requests/cpu", "does not match"),
    ({"resources": {"requests": {"gpu": 1}}}, "/resources/requests", "'gpu' not allowed"),
    ({"shm": {"size": "0"}}, "/shm/size", "does not match pattern"),
    ({"scratch": {"type": "hostPath"}}, "/scratch/type", "'emptyDir', 'ephemeral'"),
    ({"scratch": {"size": 30}}, "/scratch/size", "want string"),
    ({"run": {"keep": "yes"}}, "/run/keep", "want boolean"),
    ({"run": {"maxRestarts": -1}}, "/run/maxRestarts", "want 0"),
    ({"run": {"activeDeadlineSeconds": 1}}, "/run/activeDeadlineSeconds", "want 60"),
    ({"gang": {"scheduler": "yunikorn"}}, "/gang/scheduler", "'volcano', 'coscheduling'"),
    ({"podSecurity": {"runAsUser": 0}}, "/podSecurity/runAsUser", "want 1"),
    ({"podSecurity": {"runAsUser": "root"}}, "/podSecurity/runAsUser", "want null or integer"),
    ({"podSecurity": {"privileged": True}}, "/podSecurity", "'privileged' not allowed"),
    ({"podLabels": {"team": "a b"}}, "/podLabels/team", "does not match pattern"),
    ({"tolerations": [{"efect": "NoSchedule"}]}, "/tolerations/0", "'efect' not allowed"),
    ({"affinity": {"nodes": {}}}, "/affinity", "'nodes' not allowed"),
    ({"dnsPolicy": "None"}, "/dnsPolicy", "'ClusterFirst', 'Default'"),
    ({"hostNetwork": True}, "hostNetwork", "not allowed"),
    ({"extraEnv": [{"value": "1"}]}, "/extraEnv/0", "missing property 'name'"),
    (
        {"extraVolumes": [{"name": "a", "hostPath": {}}]},
        "/extraVolumes/0",
        "'hostPath' not allowed",
    ),
    ({"metrics": {"port": 80}}, "/metrics/port", "want 1,024"),
    ({"probes": {"failureThreshold": 0}}, "/probes/failureThreshold", "want 1"),
    ({"podMonitor": {"interval": "15"}}, "/podMonitor/interval", "(s|m)"),
    ({"networkPolicy": {"httpsCidrs": ["10.0.0.1"]}}, "/networkPolicy/httpsCidrs/0", "/[0-9]{1,3}"),
    ({"topologySpreadConstraints": [{}]}, "/topologySpreadConstraints/0", "missing properties"),
    ({"fullnameOverride": "Naics"}, "/fullnameOverride", "does not match pattern"),
]
RULES: list[tuple[dict[str, Any], str, str]] = [
    ({"s3": {"bucket": ""}}, "config.dirs.checkpoint_dir", "set s3.bucket"),
    ({"overrides": ["dirs.checkpoint_dir=checkpoints"]}, "checkpoint_dir", "set s3.bucket"),
    ({"config": {"dirs": {"checkpoint_dir": "/scratch/c"}}}, "checkpoint_dir", "lost with the pod"),
    ({"gpu": {"count": 0}}, "gpu.count", "image.flavor=cpu"),
    ({"image": {"flavor": "cpu"}}, "gpu.count", "set gpu.count=0"),
    ({"nprocPerNode": 2}, "nprocPerNode", "leave nprocPerNode empty"),
    ({"shm": {"size": "16Gi"}}, "shm.size", "lower shm.size"),
    (
        {"resources": {"requests": {"memory": "20Gi"}}},
        "resources.requests.memory",
        "lower the request",
    ),
    (
        {"nodes": 3, "config": {"data_loader": {"global_batch_size": 512}}},
        "config.data_loader.global_batch_size",
        "set it to 510 or 513",
    ),
    (
        {"nodes": 3, "overrides": ["data_loader.global_batch_size=2"]},
        "config.data_loader.global_batch_size",
        "set it to 3 or 6",
    ),
    (
        {"config": {"data_loader": {"global_batch_size": 100, "batch_size": 64}}},
        "config.data_loader.batch_size",
        "a divisor of 100",
    ),
    ({"config": {"data_loader": {"global_batch_size": 100}}}, "batch_size is 32", "a divisor"),
    ({"config": {"metrics": {"port": 1}}}, "config.metrics.port", "set metrics.port"),
    ({"config": {"x": "x" * 1_100_000}}, "config has 1100", "leave out"),
    (
        {"serviceAccount": {"create": False, "annotations": {"a": "b"}}},
        "serviceAccount.annotations",
        "set create=true",
    ),
    ({"scratch": {"storageClassName": "fast"}}, "scratch.storageClassName", "type=ephemeral"),
    ({"kind": "Job", "gang": {"scheduler": "volcano"}}, "gang.scheduler", "kueue.queue"),
    ({"gang": {"queue": "a"}}, "gang.queue", "gang.scheduler=volcano"),
    ({"kueue": {"priorityClass": "a"}}, "kueue.priorityClass", "set kueue.queue"),
    ({"kueue": {"queue": "a"}, "run": {"suspend": True}}, "run.suspend", "run.suspend=false"),
    (
        {"kind": "TrainJob", "run": {"ttlSecondsAfterFinished": 60}},
        "run.ttlSecondsAfterFinished",
        "leave it empty",
    ),
    (
        {"metrics": {"enabled": False}, "podMonitor": {"enabled": True}},
        "podMonitor.enabled",
        "metrics.enabled=true",
    ),
    ({"podMonitor": {"scrapeTimeout": "1m"}}, "podMonitor.scrapeTimeout", "lower scrapeTimeout"),
    ({"probes": {"timeoutSeconds": 60}}, "probes.timeoutSeconds", "lower timeoutSeconds"),
    ({"commonLabels": {"naics.dev/run": "a"}}, "commonLabels: naics.dev/run", "choose another"),
    ({"podLabels": {"app.kubernetes.io/name": "a"}}, "podLabels: app", "choose another"),
    ({"podMonitor": {"labels": {"helm.sh/chart": "a"}}}, "podMonitor.labels", "choose another"),
    ({"dashboards": {"labels": {"helm.sh/chart": "a"}}}, "dashboards.labels", "choose another"),
    ({"alerts": {"labels": {"helm.sh/chart": "a"}}}, "alerts.labels", "choose another"),
    ({"extraEnv": [{"name": "PET_NNODES"}]}, "extraEnv: PET_NNODES", "leave it out"),
    ({"extraVolumes": [{"name": "shm", "emptyDir": {}}]}, "extraVolumes", "choose another"),
    (
        {**VOLUME, "extraVolumeMounts": [{"name": "more", "mountPath": "/scratch/"}]},
        "extraVolumeMounts: /scratch",
        "choose another mountPath",
    ),
    (
        {"extraVolumeMounts": [{"name": "more", "mountPath": "/mnt"}]},
        "extraVolumeMounts: there is no volume more",
        "add it to extraVolumes",
    ),
    (
        {"resources": {"limits": {"nvidia.com/gpu": 1}}},
        "resources.limits: nvidia.com/gpu",
        "gpu.count",
    ),
]


@pytest.mark.parametrize(("values", "key", "advice"), SCHEMA, ids=lambda part: str(part)[:60])
def test_the_schema_refuses(values: dict[str, Any], key: str, advice: str) -> None:
    message = refusal(values)
    assert "don't meet the specifications of the schema" in message
    assert key in message
    assert advice in message


@pytest.mark.parametrize(("values", "key", "advice"), RULES, ids=lambda part: str(part)[:60])
def test_the_templates_refuse(values: dict[str, Any], key: str, advice: str) -> None:
    message = refusal(values)
    assert "templates/configmap.yaml" in message  # the one template that is always rendered
    assert key in message
    assert advice in message


@pytest.mark.parametrize(
    "values",
    [
        {"nodes": 2, "config": {"data_loader": {"global_batch_size": 512}}},
        {"config": {"data_loader": {"global_batch_size": 16, "batch_size": 64}}},  # not filled
        {"nodes": 3, "overrides": ["data_loader.global_batch_size=96"]},
        {"config": {"dirs": {"checkpoint_dir": "/mnt/c"}}, "s3": {"bucket": ""}},
        {"resources": {"limits": {"memory": "2.5Gi"}, "requests": {"memory": "2Gi"}}},
        {"resources": {"requests": {"rdma/hca": 1}, "limits": {"rdma/hca": 1}}},
        {**CPU, "nprocPerNode": 4},
        {"podMonitor": {"interval": "1m", "scrapeTimeout": "50s"}},
    ],
    ids=str,
)
def test_what_is_right_is_taken(values: dict[str, Any]) -> None:
    assert render(values)


def test_the_charts_batch_size_is_the_trainers() -> None:
    settings = yaml.safe_load((ROOT / "conf" / "config.yaml").read_text())
    text = Path(ROOT / "helm/naics-train/templates/_checks.tpl").read_text()
    [written] = re.findall(r'"data_loader.batch_size"\) \| default "(\d+)"', text)
    assert int(written) == settings["data_loader"]["batch_size"]
    grace = (ROOT / "helm/naics-train/templates/_config.tpl").read_text()
    [seconds] = re.findall(r'"launch.grace_s"\) \| default "(\d+)"', grace)
    assert float(seconds) == settings["launch"]["grace_s"]
