"""Events on the object of a run: what is sent, that nobody waits, and that refusal is told once."""

import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from fake_kube import FakeKube

from naics_job.kube import account
from naics_job.kube.api import Cluster
from naics_job.kube.events import AGAIN_S, EventSender, Note, event_body, sender_in, target_in

ENVIRONMENT = {
    "KUBERNETES_SERVICE_HOST": "10.0.0.1",
    "NAICS_JOB_NAME": "demo-0a1b2c3d",
    "NAICS_JOB_KIND": "PyTorchJob",
    "NAICS_NAMESPACE": "ml",
    "NAICS_POD_NAME": "demo-0a1b2c3d-worker-0",
}
NOTE = Note("PhaseStarted", "SADC phase 2 (geometric refinement) from step 30", "EnterPhase")


def sender_of(cluster: Cluster, again_s: float = AGAIN_S) -> EventSender:
    target = target_in(ENVIRONMENT)
    assert target is not None
    return EventSender(target, lambda: cluster, again_s)


def events(kube: FakeKube) -> list[Any]:
    return list(kube.objects.get("/api/v1/namespaces/ml/events", {}).values())


def wait_for(message: str, caplog: pytest.LogCaptureFixture) -> None:
    end = time.monotonic() + 30
    while message not in caplog.messages and time.monotonic() < end:
        time.sleep(0.02)


def test_an_event_is_about_the_run(cluster: Cluster, kube: FakeKube, put_job: Any) -> None:
    job = put_job("Running")
    sender = sender_of(cluster)
    sender.send(NOTE)
    sender.close()
    (found,) = events(kube)
    assert found["involvedObject"]["uid"] == job["metadata"]["uid"]
    assert (found["reason"], found["message"], found["type"]) == (NOTE.reason, NOTE.text, "Normal")


def test_the_same_note_is_counted_not_repeated(
    cluster: Cluster, kube: FakeKube, put_job: Any
) -> None:
    """Once in a process; another start of the run counts it up."""
    put_job("Running")
    for _ in range(3):
        sender = sender_of(cluster)
        sender.send(NOTE)
        sender.send(NOTE)
        sender.close()
    (found,) = events(kube)
    assert found["count"] == 3


def test_what_the_api_asks_of_an_event() -> None:
    target = target_in({**ENVIRONMENT, "NAICS_POD_NAME": "p" * 200})
    assert target is not None
    note = Note("TrainingFailed", "ä" * 2000, "Fail", warning=True)
    body: Any = event_body(target, "u", note, datetime(2026, 1, 2, tzinfo=UTC))
    assert len(body["message"].encode()) < 1024
    assert len(body["reportingInstance"]) == 128
    assert body["type"] == "Warning"
    assert body["lastTimestamp"] == "2026-01-02T00:00:00Z"
    assert body["metadata"]["namespace"] == body["involvedObject"]["namespace"]
    assert len(body["metadata"]["name"]) < 253


def test_a_refusal_is_told_once_and_ends_it(
    cluster: Cluster, kube: FakeKube, put_job: Any, caplog: pytest.LogCaptureFixture
) -> None:
    put_job("Running")
    kube.refusals["POST", "events"] = (403, "Forbidden", 'cannot create resource "events"')
    sender = sender_of(cluster)
    for number in range(5):
        sender.send(Note("PhaseStarted", f"phase {number}", "EnterPhase"))
        time.sleep(0.02)
    sender.close()
    assert caplog.messages.count("events.off") == 1
    assert sum(method == "POST" for method, _, _ in kube.requests) == 1


def test_what_is_told_while_the_server_is_away_comes_later(
    cluster: Cluster, kube: FakeKube, put_job: Any, caplog: pytest.LogCaptureFixture
) -> None:
    put_job("Running")
    sender = sender_of(cluster, again_s=0.02)
    kube.refusals["POST", "events"] = (503, "ServiceUnavailable", "server is starting")
    sender.send(NOTE)
    wait_for("events.late", caplog)
    sender.send(Note("TrainingFinished", "training finished", "Finish"))
    del kube.refusals["POST", "events"]
    sender.close(timeout_s=30)
    assert {found["reason"] for found in events(kube)} == {NOTE.reason, "TrainingFinished"}
    assert caplog.messages.count("events.late") == 1


def test_a_server_that_stays_away_does_not_hold_up_the_end(
    cluster: Cluster, kube: FakeKube, put_job: Any, caplog: pytest.LogCaptureFixture
) -> None:
    put_job("Running")
    kube.refusals["POST", "events"] = (503, "ServiceUnavailable", "server is starting")
    sender = sender_of(cluster)
    sender.send(NOTE)
    wait_for("events.late", caplog)
    sender.close(timeout_s=30)
    assert caplog.messages.count("events.off") == 1  # it has ended, long before its next try


def test_who_may_only_create_events_goes_on(
    cluster: Cluster, kube: FakeKube, put_job: Any, caplog: pytest.LogCaptureFixture
) -> None:
    put_job("Running")
    kube.refusals["GET", "events"] = (403, "Forbidden", 'cannot get resource "events"')
    for number in range(2):
        sender = sender_of(cluster)
        sender.send(NOTE)
        sender.send(Note("PhaseStarted", f"phase of start {number}", "EnterPhase"))
        sender.close()
    assert len(events(kube)) == 3
    assert "events.off" not in caplog.messages


def test_nobody_waits_for_a_server_that_does_not_answer(cluster: Cluster, put_job: Any) -> None:
    put_job("Running")
    never = threading.Event()

    def connect() -> Cluster:
        never.wait(20)
        return cluster

    target = target_in(ENVIRONMENT)
    assert target is not None
    sender = EventSender(target, connect)
    sender.send(NOTE)  # returns, or the test does not end in its time
    sender.close(timeout_s=0.05)
    never.set()


@pytest.mark.parametrize("missing", ["KUBERNETES_SERVICE_HOST", "NAICS_JOB_NAME", "NAICS_JOB_KIND"])
def test_no_run_no_events(missing: str) -> None:
    assert target_in({k: v for k, v in ENVIRONMENT.items() if k != missing}) is None


def test_no_token_no_events(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(account, "FOLDER", tmp_path)
    assert sender_in(ENVIRONMENT) is None
    (tmp_path / "token").write_text("t")
    assert sender_in(ENVIRONMENT) is not None


def test_training_does_not_pay_for_the_import_of_the_client() -> None:
    code = "import sys, naics_job.kube.events; print('kubernetes' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
