"""templates/jobset.yaml: one Job, restarted as a whole unless it failed for good."""

import re

from helm_chart import container_of, render, run_of


def test_it_has_one_job_of_all_pods() -> None:
    [job] = run_of("JobSet", {"nodes": 3})["spec"]["replicatedJobs"]
    assert (job["name"], job["replicas"]) == ("worker", 1)
    assert job["template"]["spec"]["completions"] == 3


def test_a_failed_pod_restarts_all_pods_but_not_after_a_permanent_code() -> None:
    spec = run_of("JobSet", {"run": {"maxRestarts": 7}})["spec"]
    [job] = spec["replicatedJobs"]
    assert job["template"]["spec"]["backoffLimit"] == 0  # so the JobSet decides
    assert spec["failurePolicy"]["maxRestarts"] == 7
    [rule] = spec["failurePolicy"]["rules"]
    assert re.fullmatch(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", rule["name"])
    assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])


def test_pods_are_found_before_they_are_ready() -> None:
    values = {"nodes": 2}
    network = run_of("JobSet", values)["spec"]["network"]
    assert network == {"enableDNSHostnames": True, "publishNotReadyAddresses": True}
    run = run_of("JobSet", values)["metadata"]["name"]
    assert f"{run}-worker-0-0.{run}:29400" in container_of("JobSet", values)["args"]


def test_limits_of_the_run_are_where_a_jobset_has_them() -> None:
    run = {"activeDeadlineSeconds": 7200, "ttlSecondsAfterFinished": 600, "suspend": True}
    spec = run_of("JobSet", {"run": run})["spec"]
    assert (spec["ttlSecondsAfterFinished"], spec["suspend"]) == (600, True)
    assert spec["replicatedJobs"][0]["template"]["spec"]["activeDeadlineSeconds"] == 7200


def test_kueue_finds_its_queue_on_the_jobset() -> None:
    values = {"kueue": {"queue": "team-a", "priorityClass": "research"}}
    jobset = run_of("JobSet", values)
    assert jobset["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert jobset["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "research"
    assert "suspend" not in jobset["spec"]  # Kueue's, whatever an upgrade says


def test_other_kinds_render_none() -> None:
    assert render({"kind": "Job"})["jobset.yaml"].strip() == ""
