"""templates/job.yaml: an Indexed Job that tells a preempted pod from a broken one."""

from helm_chart import container_of, render, run_of, template_of


def test_it_has_a_pod_per_index() -> None:
    spec = run_of("Job", {"nodes": 3})["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
    assert spec["template"]["spec"]["restartPolicy"] == "Never"  # podFailurePolicy asks for it
    assert spec["backoffLimit"] == 20


def test_codes_of_the_contract_decide_in_this_order() -> None:
    permanent, saved, disrupted = run_of("Job")["spec"]["podFailurePolicy"]["rules"]
    assert permanent["action"] == "FailJob"
    assert permanent["onExitCodes"]["values"] == [65, 70, 74, 78]  # 75 and 137 are tried again
    assert (saved["action"], saved["onExitCodes"]["values"]) == ("Ignore", [143])
    assert disrupted["action"] == "Ignore"
    assert disrupted["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]


def test_rules_name_the_container() -> None:
    rules = run_of("Job")["spec"]["podFailurePolicy"]["rules"]
    named = {rule["onExitCodes"]["containerName"] for rule in rules if "onExitCodes" in rule}
    assert named == {container_of("Job")["name"]}


def test_pods_meet_by_index_under_the_service() -> None:
    values = {"nodes": 2}
    run = run_of("Job", values)["metadata"]["name"]
    assert template_of("Job", values)["spec"]["subdomain"] == run
    assert f"{run}-0.{run}:29400" in container_of("Job", values)["args"]


def test_limits_of_the_run_are_the_jobs() -> None:
    run = {"activeDeadlineSeconds": 7200, "ttlSecondsAfterFinished": 600, "suspend": True,
           "maxRestarts": 3}  # fmt: skip
    spec = run_of("Job", {"run": run})["spec"]
    assert (spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (7200, 600)
    assert (spec["suspend"], spec["backoffLimit"]) == (True, 3)
    absent = {"activeDeadlineSeconds", "ttlSecondsAfterFinished", "suspend"}
    assert not absent & run_of("Job")["spec"].keys()


def test_transient_failures_keep_their_code() -> None:
    assert "--transient-exit-code" not in container_of("Job")["args"]


def test_other_kinds_render_none() -> None:
    assert render({"kind": "JobSet"})["job.yaml"].strip() == ""
