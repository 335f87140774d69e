"""templates/trainingruntime.yaml: what Trainer's webhook asks, and the pods of the run."""

from helm_chart import find, render, template_of


def test_the_webhook_admits_it() -> None:
    item = find("TrainingRuntime", {"kind": "TrainJob"})
    [job] = item["spec"]["template"]["spec"]["replicatedJobs"]
    ancestor = job["template"]["metadata"]["labels"]
    assert ancestor == {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
    assert job["replicas"] == 1  # the only number it takes
    names = [part["name"] for part in job["template"]["spec"]["template"]["spec"]["containers"]]
    assert names == ["node"]
    assert item["spec"]["mlPolicy"] == {"numNodes": 1, "torch": {}}


def test_its_pods_meet_at_the_first() -> None:
    values = {"kind": "TrainJob", "nodes": 2}
    run = find("TrainJob", values)["metadata"]["name"]
    [container] = template_of("TrainJob", values)["spec"]["containers"]
    assert f"{run}-node-0-0.{run}:29400" in container["args"]
    assert not [entry for entry in container["env"] if entry["name"].startswith("PET_")]


def test_the_deadline_is_the_trainjobs_only() -> None:
    item = find("TrainingRuntime", {"kind": "TrainJob", "run": {"activeDeadlineSeconds": 600}})
    [job] = item["spec"]["template"]["spec"]["replicatedJobs"]
    assert "activeDeadlineSeconds" not in job["template"]["spec"]


def test_a_gang_is_a_pod_group() -> None:
    values = {"kind": "TrainJob", "gang": {"scheduler": "coscheduling", "timeoutSeconds": 90}}
    policy = find("TrainingRuntime", values)["spec"]["podGroupPolicy"]
    assert policy == {"coscheduling": {"scheduleTimeoutSeconds": 90}}
    volcano = {"kind": "TrainJob", "gang": {"scheduler": "volcano"}}
    assert find("TrainingRuntime", volcano)["spec"]["podGroupPolicy"] == {"volcano": {}}
    assert "podGroupPolicy" not in find("TrainingRuntime", {"kind": "TrainJob"})["spec"]


def test_rules_name_its_container() -> None:
    item = find("TrainingRuntime", {"kind": "TrainJob"})
    [job] = item["spec"]["template"]["spec"]["replicatedJobs"]
    rules = job["template"]["spec"]["podFailurePolicy"]["rules"]
    assert {r["onExitCodes"]["containerName"] for r in rules if "onExitCodes" in r} == {"node"}


def test_other_kinds_render_none() -> None:
    assert render({"kind": "JobSet"})["trainingruntime.yaml"].strip() == ""
