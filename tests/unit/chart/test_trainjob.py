"""templates/trainjob.yaml: it sizes the run and names the run's own runtime."""

from helm_chart import find, render, run_of


def test_it_sizes_the_run() -> None:
    trainer = run_of("TrainJob", {"nodes": 2, "gpu": {"count": 4}})["spec"]["trainer"]
    assert trainer == {"numNodes": 2, "numProcPerNode": 4}


def test_it_names_the_runtime_rendered_with_it() -> None:
    reference = run_of("TrainJob")["spec"]["runtimeRef"]
    runtime = find("TrainingRuntime", {"kind": "TrainJob"})
    group = runtime["apiVersion"].split("/")[0]
    expected = {"apiGroup": group, "kind": "TrainingRuntime", "name": runtime["metadata"]["name"]}
    assert reference == expected


def test_limits_of_the_run_are_the_trainjobs() -> None:
    run = {"activeDeadlineSeconds": 7200, "suspend": True}
    spec = run_of("TrainJob", {"run": run})["spec"]
    assert (spec["activeDeadlineSeconds"], spec["suspend"]) == (7200, True)


def test_its_name_changes_with_the_runtime() -> None:
    names = {
        run_of("TrainJob", {"shm": {"size": size}})["metadata"]["name"] for size in ("1Gi", "2Gi")
    }
    assert len(names) == 2


def test_other_kinds_render_none() -> None:
    assert render({"kind": "Job"})["trainjob.yaml"].strip() == ""
