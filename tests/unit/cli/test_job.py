"""`job` as CI uses it: exit codes, JSON, and what a signal to the waiting command does."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_kube import FakeKube
from typer.testing import CliRunner

from naics_job.cli.app import app

ROOT = Path(__file__).parents[3]
JOBS, VERSION = "pytorchjobs", "kubeflow.org/v1"
MANIFEST = """
apiVersion: v1
kind: ConfigMap
metadata: {name: demo-0a1b2c3d, labels: {naics.dev/run: demo-0a1b2c3d}}
data: {config.yaml: "seed: 7"}
---
apiVersion: kubeflow.org/v1
kind: PyTorchJob
metadata: {name: demo-0a1b2c3d, labels: {app.kubernetes.io/name: naics-train}}
spec:
  pytorchReplicaSpecs:
    Worker:
      replicas: 1
      template:
        spec:
          containers:
            - {name: pytorch, image: "naics:1", args: [launch, --, train]}
"""
RUN = "demo-0a1b2c3d"


@pytest.fixture
def kube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKube]:
    with FakeKube() as server:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path)))
        (tmp_path / "run.yaml").write_text(MANIFEST)
        monkeypatch.chdir(tmp_path)
        yield server


def run(*words: str) -> Any:
    return CliRunner().invoke(app, ["job", *words])


def end(kube: FakeKube, condition: str, code: int, message: str = "", pause_s: float = 0.0) -> None:
    """The run ends as the operator and the kubelet tell of it."""
    time.sleep(pause_s)
    labels = {"training.kubeflow.org/job-name": RUN, "training.kubeflow.org/replica-index": "0"}
    ended = {"exitCode": code, "message": message, "reason": "Error" if code else "Completed"}
    status = {"name": "pytorch", "restartCount": 2, "state": {"terminated": ended}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"{RUN}-worker-0"}}
    pod["metadata"]["labels"] = labels  # type: ignore[index]
    pod["status"] = {"phase": "Failed" if code else "Succeeded", "containerStatuses": [status]}  # type: ignore[assignment]
    kube.put("pods", pod)
    job = kube.one(JOBS, RUN, VERSION)
    kube.put(JOBS, job | {"status": {"conditions": [{"type": condition, "status": "True"}]}})


def test_submit_prints_the_name_and_nothing_else(kube: FakeKube) -> None:
    result = run("submit", "--manifest", "run.yaml")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{RUN}\n"


def test_submit_as_json_and_again(kube: FakeKube) -> None:
    first = json.loads(run("submit", "--manifest", "run.yaml", "-o", "json").stdout)
    again = json.loads(run("submit", "--manifest", "run.yaml", "-o", "json").stdout)
    assert first["created"]
    assert not again["created"]
    assert first["uid"] == again["uid"] == kube.one(JOBS, RUN, VERSION)["metadata"]["uid"]


@pytest.mark.parametrize(
    ("condition", "code", "expected"),
    [("Succeeded", 0, 0), ("Failed", 65, 65), ("Failed", 203, 75), ("Failed", 137, 137)],
)
def test_submit_and_wait_ends_with_the_code_of_the_run(
    condition: str, code: int, expected: int, kube: FakeKube
) -> None:
    run("submit", "--manifest", "run.yaml")
    end(kube, condition, code)
    result = run("submit", "--manifest", "run.yaml", "--wait")
    assert result.exit_code == expected, result.output


def test_wrong_settings_end_with_78_and_ask_no_cluster(kube: FakeKube) -> None:
    result = run("submit", "--manifest", "run.yaml", "--set", "loss.temprature=1")
    assert result.exit_code == 78
    assert "did you mean loss.temperature" in result.stderr
    assert kube.requests == []


def test_render_is_what_submit_sends(kube: FakeKube) -> None:
    import yaml

    changes = ("--manifest", "run.yaml", "--tag", "2", "--set", "seed=8")
    rendered = list(yaml.safe_load_all(run("render", *changes).stdout))
    name = run("submit", *changes).stdout.strip()
    sent = kube.one(JOBS, name, VERSION)
    assert rendered[-1]["spec"] == sent["spec"]
    assert rendered[-1]["metadata"]["name"] == name != RUN


def test_status_in_words_and_as_json(kube: FakeKube) -> None:
    run("submit", "--manifest", "run.yaml")
    words = {"exit_code": 65, "error": "no column code", "phase": 2, "step": 120}
    end(kube, "Failed", 65, json.dumps(words))
    text = run("status", RUN).stdout
    assert "PyTorchJob demo-0a1b2c3d: Failed" in text.splitlines()[0]
    assert "no column code" in text
    found = json.loads(run("status", RUN, "-o", "json").stdout)
    assert (found["phase"], found["exit_code"]) == ("Failed", 65)
    assert found["progress"] == {"phase": 2, "step": 120}
    assert found["pods"][0]["restarts"] == 2
    assert found["pods"][0]["rank"] == 0


def test_status_of_no_run(kube: FakeKube) -> None:
    result = run("status", "nobody")
    assert result.exit_code == 78
    assert "job list" in result.stderr


def test_logs_of_all_ranks_and_of_one(kube: FakeKube) -> None:
    run("submit", "--manifest", "run.yaml")
    end(kube, "Succeeded", 0)
    kube.write_log(f"{RUN}-worker-0", "2026-01-01T00:00:00Z step 1", "2026-01-01T00:00:01Z step 2")
    assert run("logs", RUN, "--rank", "0").stdout == "step 1\nstep 2\n"
    assert run("logs", RUN, "--rank", "1").stdout == ""
    assert run("logs", RUN, "--prefix").stdout == "[0] step 1\n[0] step 2\n"


def test_the_log_is_followed_until_the_run_ends(kube: FakeKube) -> None:
    run("submit", "--manifest", "run.yaml")
    end(kube, "Failed", 78)
    kube.write_log(f"{RUN}-worker-0", "2026-01-01T00:00:00Z only line")
    result = run("submit", "--manifest", "run.yaml", "--follow")
    assert result.exit_code == 78
    assert result.stdout == f"{RUN}\nonly line\n"
    assert run("logs", RUN, "--follow").stdout == "only line\n"


def test_list_in_words_and_as_json(kube: FakeKube) -> None:
    assert run("list").stdout == "no runs\n"
    run("submit", "--manifest", "run.yaml")
    assert RUN in run("list").stdout
    found = json.loads(run("list", "-o", "json").stdout)
    assert [each["name"] for each in found] == [RUN]


def test_progress_of_a_running_run_is_in_its_events(kube: FakeKube) -> None:
    run("submit", "--manifest", "run.yaml")
    uid = kube.one(JOBS, RUN, VERSION)["metadata"]["uid"]
    for number in (1, 2):
        kube.put(
            "events",
            {
                "apiVersion": "v1",
                "metadata": {"name": f"{RUN}.{number}"},
                "involvedObject": {"uid": uid},
                "reason": "PhaseStarted",
                "message": f"SADC phase {number} (of some kind) from step {number}00",
                "lastTimestamp": f"2026-01-01T00:00:0{number}Z",
            },
        )
    assert json.loads(run("status", RUN, "-o", "json").stdout)["progress"]["phase"] == 2
    assert "phase 2, step 200" in run("list").stdout


def test_wait_says_that_the_time_is_up(kube: FakeKube) -> None:
    run("submit", "--manifest", "run.yaml")
    result = run("wait", RUN, "--timeout", "0.2")
    assert result.exit_code == 75
    assert "job wait" in result.stderr


def test_no_cluster_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    result = run("list")
    assert result.exit_code == 78
    assert "KUBECONFIG" in result.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_command_and_leaves_the_run(
    number: int, code: int, kube: FakeKube, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", "from naics_job.cli.app import main; main()"]
    words = ["job", "submit", "--manifest", "run.yaml", "--wait"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*command, *words], env=environment, cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == f"{RUN}\n"
        assert "Pending" in process.stderr.readline()  # it waits
        process.send_signal(number)
        _, told = process.communicate(timeout=20)
    assert process.returncode == code
    assert f"naics-embedder job wait {RUN} --namespace ml" in told
    assert kube.one(JOBS, RUN, VERSION)["spec"].get("runPolicy") is None
    assert not any(method == "DELETE" for method, _, _ in kube.requests)


def test_cancel_suspends_and_keeps(kube: FakeKube) -> None:
    run("submit", "--manifest", "run.yaml")
    result = run("cancel", RUN)
    assert result.exit_code == 0, result.output
    job = kube.one(JOBS, RUN, VERSION)
    assert job["spec"]["runPolicy"]["suspend"] is True
    assert "naics.dev/cancelled" in job["metadata"]["annotations"]


def test_cancel_waits_until_pods_have_saved(kube: FakeKube) -> None:
    run("submit", "--manifest", "run.yaml")
    end(kube, "Running", 0)
    pod = kube.one("pods", f"{RUN}-worker-0")
    kube.put("pods", pod | {"status": {"phase": "Running"}})
    result = run("cancel", RUN, "--delete", "--timeout", "1")
    assert result.exit_code == 75
    assert f"{RUN}-worker-0" in result.stderr
    assert kube.one(JOBS, RUN, VERSION) is not None  # not deleted before it has saved
    thread = threading.Timer(0.5, lambda: kube.drop("pods", f"{RUN}-worker-0"))
    thread.start()
    result = run("cancel", RUN, "--delete")
    thread.join()
    assert result.exit_code == 0, result.output
    assert kube.one(JOBS, RUN, VERSION) is None


@pytest.mark.parametrize(
    "words",
    [
        ("--release", "r1", "--except", "a-00000002"),
        ("--selector", "app.kubernetes.io/instance=r1,naics.dev/run,naics.dev/run!=a-00000002"),
    ],
)
def test_cancel_of_a_release_spares_one_run(words: tuple[str, ...], kube: FakeKube) -> None:
    for name, release in (("a-00000001", "r1"), ("a-00000002", "r1"), ("b-00000001", "r2")):
        labels = {"app.kubernetes.io/name": "naics-train", "app.kubernetes.io/instance": release}
        meta = {"name": name, "labels": {**labels, "naics.dev/run": name}}
        kube.put(JOBS, {"apiVersion": VERSION, "kind": "PyTorchJob", "metadata": meta, "spec": {}})
    result = run("cancel", *words)
    assert result.stdout == "a-00000001\n", result.output
    names = ("a-00000001", "a-00000002", "b-00000001")
    policies = [kube.one(JOBS, name, VERSION)["spec"].get("runPolicy") for name in names]
    assert policies == [{"suspend": True}, None, None]
