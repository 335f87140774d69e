"""The state of a run of every kind, from its object and its pods."""

from collections.abc import Callable
from typing import Any

import pytest
from fake_kube import FakeKube

from naics_job.errors import ConfigError
from naics_job.kube.api import Cluster
from naics_job.kube.cancel import cancel
from naics_job.kube.failures import ApiError
from naics_job.kube.kinds import KINDS, kind_named, kind_of
from naics_job.kube.pods import outcome_in, rank_of, view_of
from naics_job.kube.runs import all_runs, find
from naics_job.kube.runs import state as current
from naics_job.kube.state import state_of

Put = Callable[..., Any]
TEMPLATE: Any = {"spec": {"containers": [{"name": "pytorch", "image": "i"}]}}
SPECS: dict[str, Any] = {
    "PyTorchJob": {"pytorchReplicaSpecs": {"Worker": {"replicas": 3, "template": TEMPLATE}}},
    "TrainJob": {"trainer": {"numNodes": 3}},
    "JobSet": {"replicatedJobs": [{"replicas": 1, "template": {"spec": {"parallelism": 3}}}]},
    "Job": {"parallelism": 3, "template": TEMPLATE},
}
FINISHED = {
    "PyTorchJob": "Succeeded",
    "TrainJob": "Complete",
    "JobSet": "Completed",
    "Job": "Complete",
}


def job_of(kind: str, *conditions: str, **status: Any) -> Any:
    true = [{"type": each, "status": "True"} for each in conditions]
    return {
        "apiVersion": KINDS[kind].api_version,
        "kind": kind,
        "metadata": {"name": "demo", "uid": "u", "labels": {}},
        "spec": SPECS[kind],
        "status": {"conditions": true, **status},
    }


def pod_of(labels: dict[str, str], **state: Any) -> Any:
    status = {"name": "pytorch", "restartCount": 0, "state": state}
    meta = {"name": "p", "uid": str(labels), "labels": labels}
    return {"metadata": meta, "status": {"phase": "Running", "containerStatuses": [status]}}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_begins_and_ends(kind: str) -> None:
    found = KINDS[kind]
    assert found.num_ranks(job_of(kind)) == 3
    assert state_of(found, job_of(kind), []).phase == "Pending"
    assert state_of(found, job_of(kind, FINISHED[kind]), []).phase == "Succeeded"
    assert state_of(found, job_of(kind, "Failed"), []).phase == "Failed"
    assert kind_of(job_of(kind)) is found


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_suspended(kind: str, cluster: Cluster, kube: FakeKube) -> None:
    found = KINDS[kind]
    kube.put(found.plural, job_of(kind))
    cancel(cluster, found, cluster.get(found.path("ml", "demo")), 1.0, print)
    job = cluster.get(found.path("ml", "demo"))
    assert found.is_suspended(job)
    assert current(cluster, found, job).phase == "Suspended"


def test_a_run_that_a_queue_holds_is_queued() -> None:
    job = job_of("Job", "Suspended")
    job["spec"] = {**job["spec"], "suspend": True}
    job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "gpu"
    assert state_of(KINDS["Job"], job, []).phase == "Queued"


@pytest.mark.parametrize(
    ("labels", "rank"),
    [
        ({"training.kubeflow.org/replica-type": "worker",
          "training.kubeflow.org/replica-index": "2"}, 2),
        ({"batch.kubernetes.io/job-completion-index": "1"}, 1),
        ({"jobset.sigs.k8s.io/job-index": "3"}, 3),
        ({}, None),
    ],
)  # fmt: skip
def test_the_rank_of_a_pod(labels: dict[str, str], rank: int | None) -> None:
    assert rank_of(pod_of(labels)) == rank


def test_workers_beside_a_master_count_from_one() -> None:
    pod = pod_of({"training.kubeflow.org/replica-type": "worker",
                  "training.kubeflow.org/replica-index": "0"})  # fmt: skip
    pod["spec"] = {"containers": [{"name": "pytorch", "env": [{"name": "PET_MASTER_ADDR"}]}]}
    assert rank_of(pod) == 1


def test_a_run_runs_when_all_its_pods_do() -> None:
    index = "batch.kubernetes.io/job-completion-index"
    views = [view_of(pod_of({index: str(n)}, running={}), "pytorch") for n in range(3)]
    assert state_of(KINDS["Job"], job_of("Job"), views).phase == "Running"
    assert state_of(KINDS["Job"], job_of("Job"), views[:2]).phase == "Pending"
    assert state_of(KINDS["Job"], job_of("Job", failed=1), views[:2]).phase == "Restarting"


def test_unschedulable_is_said_with_what_helps() -> None:
    pod = pod_of({})
    text = "0/4 nodes are available: 4 Insufficient nvidia.com/gpu."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    pod["status"] = {"phase": "Pending", "conditions": [{**condition, "message": text}]}
    problem = view_of(pod, "pytorch").problem
    assert problem is not None
    assert (problem.message, problem.lasting) == (text, False)  # an autoscaler may help
    assert "GPU" in problem.fix


@pytest.mark.parametrize(
    ("message", "outcome"),
    [
        ("", {}),
        ('{"exit_code": 65, "step": 3}', {"exit_code": 65, "step": 3}),
        ("Killed\n", {"error": "Killed"}),
        ("[1]", {"error": "[1]"}),
    ],
)
def test_last_words(message: str, outcome: dict[str, Any]) -> None:
    assert outcome_in(message) == outcome


def test_a_run_is_found_whatever_its_kind(cluster: Cluster, kube: FakeKube) -> None:
    kube.unknown |= {"pytorchjobs", "trainjobs"}
    kube.put("jobsets", job_of("JobSet"))
    assert find(cluster, "demo")[0].name == "JobSet"
    with pytest.raises(ApiError, match="no run other"):
        find(cluster, "other")


def test_what_may_not_be_listed_is_said(cluster: Cluster, kube: FakeKube) -> None:
    kube.refusals["GET", "jobs"] = (403, "Forbidden", 'cannot list resource "jobs"')
    _, problems = all_runs(cluster)
    assert ["jobs" in each for each in problems] == [True]


def test_parts_of_a_run_and_hooks_are_no_runs(cluster: Cluster, kube: FakeKube) -> None:
    labels = {"app.kubernetes.io/name": "naics-train", "naics.dev/run": "demo"}
    for name, extra in (
        ("demo", {}),
        ("demo-node-0", {"ownerReferences": [{"kind": "JobSet"}]}),
        ("demo-cancel", {"annotations": {"helm.sh/hook": "pre-upgrade"}}),
    ):
        job = job_of("Job") | {"metadata": {"name": name, "labels": labels, **extra}}
        kube.put("jobs", job)
    assert [job["metadata"]["name"] for _, job in all_runs(cluster)[0]] == ["demo"]


def test_a_queued_run_is_cancelled_through_its_queue(cluster: Cluster, kube: FakeKube) -> None:
    """Kueue starts again what others suspend."""
    job = job_of("Job")
    job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "gpu"
    job = kube.put("jobs", job)
    meta = {"name": "job-demo", "labels": {"kueue.x-k8s.io/job-uid": job["metadata"]["uid"]}}
    api = "kueue.x-k8s.io/v1beta1"
    kube.put("workloads", {"apiVersion": api, "metadata": meta, "spec": {"active": True}})
    assert cancel(cluster, KINDS["Job"], job, 1.0, print)
    assert kube.one("workloads", "job-demo", api)["spec"]["active"] is False
    assert "suspend" not in kube.one("jobs", "demo", "batch/v1")["spec"]


def test_a_kind_by_its_name() -> None:
    assert kind_named("pytorchjob").name == "PyTorchJob"
    with pytest.raises(ConfigError, match="no such kind"):
        kind_named("Pod")
