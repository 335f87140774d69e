"""An impatient cluster, and objects as the operator and the kubelet make them."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_kube import FakeKube

from naics_job.kube.api import Cluster, Timing
from naics_job.kube.connect import connect
from naics_job.kube.kinds import KINDS
from naics_job.storage.retry import Patience

RUN = "demo-0a1b2c3d"
OURS = ("watch-", "log-", "kube-events")  # threads of the package
QUICK = Timing(
    connect_s=2.0,
    read_s=2.0,
    watch_s=1,
    watch_slack_s=0.5,
    patience=Patience(attempts=1_000_000, base_s=0.02, cap_s=0.05, budget_s=3.0),
)


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    """What a test started in the background ends before the next one, whose log it would be in."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith(OURS):
            thread.join(timeout=30)
            assert not thread.is_alive(), thread.name


@pytest.fixture
def kube() -> Iterator[FakeKube]:
    with FakeKube() as server:
        yield server


@pytest.fixture
def cluster(kube: FakeKube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("KUBECONFIG", str(kube.kubeconfig(tmp_path)))
    return connect(timing=QUICK)


@pytest.fixture
def put_job(kube: FakeKube) -> Callable[..., Any]:
    """Create or change the run; keywords: conditions that are true, suspend, kind, replicas."""

    def put(*conditions: str, kind: str = "PyTorchJob", replicas: int = 2, **meta: Any) -> Any:
        found = KINDS[kind]
        template = {"spec": {"containers": [{"name": found.container, "image": "i:1"}]}}
        spec: dict[str, Any] = {"parallelism": replicas, "template": template}
        if kind == "PyTorchJob":
            worker = {"replicas": replicas, "template": template}
            spec = {"runPolicy": {}, "pytorchReplicaSpecs": {"Worker": worker}}
        true = [{"type": each, "status": "True", "reason": f"Is{each}"} for each in conditions]
        labels = {"app.kubernetes.io/name": "naics-train", "naics.dev/run": RUN}
        job = {
            "apiVersion": found.api_version,
            "kind": kind,
            "metadata": {"name": RUN, "labels": labels, **meta},
            "spec": spec,
            "status": {"conditions": true},
        }
        return kube.put(found.plural, job)

    return put


@pytest.fixture
def put_pod(kube: FakeKube) -> Callable[..., Any]:
    """Create or change the pod of a rank; keywords say what its container does."""

    def put(
        rank: int,
        *,
        exit_code: int | None = None,
        waiting: tuple[str, str] | None = None,
        message: str = "",
        reason: str = "Error",
        restarts: int = 0,
        last_code: int | None = None,
        **meta: Any,
    ) -> Any:
        name = f"{RUN}-worker-{rank}"
        state: dict[str, Any] = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
        phase = "Running"
        if waiting is not None:
            state, phase = (
                {"waiting": dict(zip(("reason", "message"), waiting, strict=True))},
                "Pending",
            )
        if exit_code is not None:
            ended = {"exitCode": exit_code, "reason": reason, "message": message}
            state = {"terminated": {**ended, "finishedAt": f"2026-01-01T00:01:0{rank}Z"}}
            phase = "Failed" if exit_code else "Succeeded"
        status = {"name": "pytorch", "state": state, "restartCount": restarts}
        if last_code is not None:
            status["lastState"] = {"terminated": {"exitCode": last_code, "reason": "Error"}}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "labels": {
                    "training.kubeflow.org/job-name": RUN,
                    "training.kubeflow.org/replica-type": "worker",
                    "training.kubeflow.org/replica-index": str(rank),
                },
                **meta,
            },
            "spec": {"nodeName": f"node-{rank}", "containers": [{"name": "pytorch"}]},
            "status": {"phase": phase, "containerStatuses": [status]},
        }
        return kube.put("pods", pod)

    return put
