"""templates/pytorchjob.yaml: what the operator v1 and its webhook ask of a PyTorchJob."""

import copy
import re
from typing import Any

import pytest
from helm_chart import EXAMPLES, container_of, example, merged, render, run_of, template_of


def webhook_problems(job: dict[str, Any]) -> list[str]:
    """What the validating webhook of the operator refuses, and values that nothing checks."""
    spec, found = job["spec"], []
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", job["metadata"]["name"]):
        found.append("the name is no RFC 1035 label")
    if set(spec["pytorchReplicaSpecs"]) - {"Master", "Worker"}:
        found.append("a replica type is neither Master nor Worker")
    if "elasticPolicy" in spec and "Worker" not in spec["pytorchReplicaSpecs"]:
        found.append("elasticPolicy without Worker")
    if "nProcPerNode" in spec.get("elasticPolicy", {}):
        found.append("elasticPolicy.nProcPerNode beside nprocPerNode")
    if spec["runPolicy"]["cleanPodPolicy"] not in ("Running", "All", "None"):
        found.append("cleanPodPolicy")
    for kind, replica in spec["pytorchReplicaSpecs"].items():
        found += [f"{kind}: {problem}" for problem in replica_problems(kind, replica)]
    return found


def replica_problems(kind: str, replica: dict[str, Any]) -> list[str]:
    found = []
    if not 1 <= replica.get("replicas", 0) <= (1 if kind == "Master" else 10**6):
        found.append("replicas")
    containers = replica["template"]["spec"]["containers"]
    if "pytorch" not in [container["name"] for container in containers]:
        found.append("no container pytorch")
    if not all(container.get("image") for container in containers):
        found.append("a container without image")
    if replica["restartPolicy"] not in ("Always", "OnFailure", "Never", "ExitCode"):
        found.append("restartPolicy")
    return found


def test_the_rules_of_the_webhook_are_rules() -> None:
    job = copy.deepcopy(run_of("PyTorchJob"))
    worker = job["spec"]["pytorchReplicaSpecs"]["Worker"]
    job["metadata"]["name"] = "1st"
    job["spec"]["pytorchReplicaSpecs"] = {"Workers": worker, "Master": {**worker, "replicas": 2}}
    job["spec"]["elasticPolicy"] = {"nProcPerNode": 1}
    job["spec"]["runPolicy"]["cleanPodPolicy"] = "Nothing"
    worker["restartPolicy"] = "Sometimes"
    worker["template"]["spec"]["containers"] = [{"name": "trainer"}]
    assert (
        len(webhook_problems(job)) == 11
    )  # Master: replicas; both: container, image, restartPolicy


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_webhook_admits_it(name: str) -> None:
    values = merged(example(name), {"gang": {"scheduler": "", "queue": ""}})
    assert webhook_problems(run_of("PyTorchJob", values)) == []


def test_it_has_workers_only_and_a_process_per_gpu() -> None:
    spec = run_of("PyTorchJob", {"nodes": 3, "gpu": {"count": 4}})["spec"]
    assert set(spec["pytorchReplicaSpecs"]) == {"Worker"}  # a Master brings an init container
    assert spec["pytorchReplicaSpecs"]["Worker"]["replicas"] == 3
    assert spec["nprocPerNode"] == "4"  # a string, as the definition has it
    assert "elasticPolicy" not in spec  # with one, any pod that ends well ends the job well


def test_pods_that_end_for_good_end_the_job_and_transient_ones_do_not() -> None:
    worker = run_of("PyTorchJob")["spec"]["pytorchReplicaSpecs"]["Worker"]
    assert worker["restartPolicy"] == "ExitCode"  # codes from 128 up are tried again
    arguments = container_of("PyTorchJob")["args"]
    own = arguments[: arguments.index("--")]
    assert int(own[own.index("--transient-exit-code") + 1]) == 128 + 75


def test_the_run_policy_has_what_was_asked_for_and_no_more() -> None:
    plain = run_of("PyTorchJob")["spec"]["runPolicy"]
    assert plain == {"cleanPodPolicy": "Running"}
    run = {"activeDeadlineSeconds": 7200, "ttlSecondsAfterFinished": 600, "suspend": True}
    assert run_of("PyTorchJob", {"run": run})["spec"]["runPolicy"] == {**plain, **run}


def test_a_gang_has_all_pods() -> None:
    volcano = {"nodes": 4, "gang": {"scheduler": "volcano", "queue": "training"}}
    policy = run_of("PyTorchJob", volcano)["spec"]["runPolicy"]["schedulingPolicy"]
    assert policy == {"minAvailable": 4, "queue": "training"}
    coscheduling = {"nodes": 2, "gang": {"scheduler": "coscheduling", "timeoutSeconds": 60}}
    policy = run_of("PyTorchJob", coscheduling)["spec"]["runPolicy"]["schedulingPolicy"]
    assert policy == {"minAvailable": 2, "scheduleTimeoutSeconds": 60}


def test_pods_meet_at_the_operators_service_of_the_first() -> None:
    run = run_of("PyTorchJob", {"nodes": 2})["metadata"]["name"]
    arguments = container_of("PyTorchJob", {"nodes": 2})["args"]
    assert f"{run}-worker-0:29400" in arguments
    assert "restartPolicy" not in template_of("PyTorchJob")["spec"]  # the operator sets it


def test_other_kinds_render_none() -> None:
    assert render({"kind": "Job"})["pytorchjob.yaml"].strip() == ""
