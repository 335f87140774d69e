"""Runs in a queue of Kueue: it suspends and starts them, and undoes what others do about that."""

from naics_job.kube.api import MERGE, Cluster
from naics_job.kube.failures import ApiError, NotFoundError
from naics_job.kube.kinds import QUEUE
from naics_job.kube.paths import Json, path_of

VERSIONS = ("kueue.x-k8s.io/v1beta2", "kueue.x-k8s.io/v1beta1")
JOB_UID = "kueue.x-k8s.io/job-uid"  # label of a workload


def set_active(cluster: Cluster, job: Json, active: bool) -> None:
    """Tell Kueue to let go of a run, or to take it up again.

    Raises:
        ApiError: Kueue has no workload of the run, or it may not be changed.
    """
    selector = f"{JOB_UID}={job['metadata']['uid']}"
    for version in VERSIONS:
        path = path_of(version, cluster.namespace, "workloads")
        try:
            items = cluster.get(path, labelSelector=selector).get("items") or []
        except NotFoundError:
            continue
        for each in items:
            one = f"{path}/{each['metadata']['name']}"
            cluster.send("PATCH", one, None, {"spec": {"active": active}}, MERGE)
        if items:
            return
    raise ApiError(
        f"{job['metadata']['name']} has the label {QUEUE}, but Kueue knows no workload of it",
        "check that Kueue is installed; kubectl delete ends the run too, and lets it save",
    )
