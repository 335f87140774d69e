"""Waiting for a run: every way it can end, and every way the API server can get in between."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_kube import FakeKube

from naics_job.errors import ConfigError, NaicsJobError, TransientError
from naics_job.kube.api import Cluster
from naics_job.kube.failures import ApiError, NotFoundError
from naics_job.kube.kinds import KINDS
from naics_job.kube.wait import Audience, Limits, RunFailedError, wait_for
from naics_job.kube.watch import Reflector
from naics_job.storage.retry import Patience

RUN = "demo-0a1b2c3d"
KIND = KINDS["PyTorchJob"]
LIMITS = Limits(timeout_s=8.0, start_grace_s=60.0, tick_s=0.1)
Put = Callable[..., Any]


def wait(cluster: Cluster, limits: Limits = LIMITS) -> tuple[str, list[str]]:
    told: list[str] = []
    state = wait_for(cluster, KIND, RUN, limits, Audience(told.append))
    return state.phase, told


def later(*actions: Callable[[], Any], pause_s: float = 0.15) -> threading.Thread:
    """Do these one after the other while the test waits."""

    def work() -> None:
        for action in actions:
            time.sleep(pause_s)
            action()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_run_that_is_done_already(cluster: Cluster, put_job: Put, put_pod: Put) -> None:
    put_job("Succeeded")
    put_pod(0, exit_code=0)
    phase, told = wait(cluster)
    assert phase == "Succeeded"
    assert told[0] == f"{RUN}: Succeeded"


def test_a_run_from_start_to_end(cluster: Cluster, put_job: Put, put_pod: Put) -> None:
    put_job("Created")
    thread = later(
        lambda: [put_pod(0), put_pod(1), put_job("Running")],
        lambda: put_job("Running", "Succeeded"),
    )
    _, told = wait(cluster)
    thread.join()
    assert [line.partition(": ")[2] for line in told] == ["Pending", "Running", "Succeeded"]


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ((65, 143), 65),
        ((143, 78), 78),
        ((203, 203), 75),
        ((74, 70), 74),  # the other only lost its peer
        ((70, 203), 70),
        ((137, 143), 137),
        ((143, 143), 143),
        ((1, 143), 1),
    ],
)
def test_the_code_is_that_of_the_pod_that_failed_by_itself(
    codes: tuple[int, ...], expected: int, cluster: Cluster, put_job: Put, put_pod: Put
) -> None:
    put_job("Failed")
    for rank, code in enumerate(codes):
        put_pod(rank, exit_code=code)
    with pytest.raises(RunFailedError) as failure:
        wait(cluster)
    assert failure.value.exit_code == expected


def test_out_of_memory_beats_those_who_lost_the_peer(
    cluster: Cluster, put_job: Put, put_pod: Put
) -> None:
    put_job("Failed")
    put_pod(0, exit_code=70)
    put_pod(1, exit_code=137, reason="OOMKilled")
    with pytest.raises(RunFailedError) as failure:
        wait(cluster)
    assert failure.value.exit_code == 137


def test_the_last_words_of_the_launcher_are_told(
    cluster: Cluster, put_job: Put, put_pod: Put
) -> None:
    put_job("Failed")
    put_pod(0, exit_code=143)
    put_pod(1, exit_code=1, message=json.dumps({"exit_code": 65, "error": "no column code"}))
    with pytest.raises(RunFailedError, match="rank 1 ended with 65: no column code") as failure:
        wait(cluster)
    assert failure.value.exit_code == 65


def test_a_pod_that_is_cleaned_up_has_told_its_code(
    cluster: Cluster, kube: FakeKube, put_job: Put, put_pod: Put
) -> None:
    put_job("Running")
    put_pod(0)
    thread = later(
        lambda: put_pod(0, exit_code=65),
        lambda: kube.drop("pods", f"{RUN}-worker-0"),
        lambda: put_job("Failed"),
    )
    with pytest.raises(RunFailedError, match="rank 0 ended with 65") as failure:
        wait(cluster)
    thread.join()
    assert failure.value.exit_code == 65


def test_a_watch_of_pods_that_lags_does_not_hide_the_code(
    cluster: Cluster, kube: FakeKube, put_job: Put, put_pod: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_job("Running")
    put_pod(0)
    real = Reflector._watch

    def slow(self: Reflector, version: str) -> None:
        if self.collection == "pods":
            self.stopping.wait()
        real(self, version)

    monkeypatch.setattr(Reflector, "_watch", slow)
    thread = later(lambda: [put_pod(0, exit_code=78), put_job("Failed")])
    with pytest.raises(RunFailedError) as failure:
        wait(cluster)
    thread.join()
    assert failure.value.exit_code == 78


def test_without_a_pod_the_operator_is_quoted(cluster: Cluster, put_job: Put) -> None:
    put_job("Failed")
    with pytest.raises(RunFailedError, match="IsFailed") as failure:
        wait(cluster)
    assert failure.value.exit_code == 70


def test_a_preempted_pod_is_not_the_end(cluster: Cluster, put_job: Put, put_pod: Put) -> None:
    put_job("Running")
    put_pod(0)
    put_pod(1)
    thread = later(
        lambda: [put_pod(1, exit_code=143), put_job("Restarting")],
        lambda: put_pod(1, uid="another"),
        lambda: put_job("Succeeded"),
    )
    phase, told = wait(cluster)
    thread.join()
    assert phase == "Succeeded"
    assert any("rank 1" in line and "ended with 143" in line for line in told)
    assert f"{RUN}: Restarting" in told


def test_the_time_is_up(cluster: Cluster, put_job: Put) -> None:
    put_job("Running")
    with pytest.raises(TransientError, match=r"still Pending after 0\.3 s") as failure:
        wait(cluster, Limits(timeout_s=0.3, start_grace_s=60.0, tick_s=0.1))
    assert failure.value.exit_code == 75
    assert "job wait" in failure.value.hint


def test_a_run_that_is_deleted_meanwhile(cluster: Cluster, kube: FakeKube, put_job: Put) -> None:
    put_job("Running")
    thread = later(lambda: kube.drop("pytorchjobs", RUN, KIND.api_version))
    with pytest.raises(NotFoundError, match="deleted meanwhile"):
        wait(cluster)
    thread.join()


def test_a_run_that_is_replaced_is_not_taken_for_the_old_one(
    cluster: Cluster, kube: FakeKube, put_job: Put
) -> None:
    put_job("Running")
    thread = later(lambda: put_job("Succeeded", uid="another"))
    with pytest.raises(NotFoundError, match="deleted meanwhile"):
        wait(cluster)
    thread.join()


def test_a_run_that_is_not_there(cluster: Cluster) -> None:
    with pytest.raises(NotFoundError, match=f"there is no PyTorchJob {RUN}"):
        wait(cluster)


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "CreateContainerConfigError"])
def test_a_pod_that_cannot_start_ends_the_wait(
    reason: str, cluster: Cluster, put_job: Put, put_pod: Put
) -> None:
    put_job("Created")
    put_pod(0, waiting=(reason, "secret s3 not found"))
    with pytest.raises(ConfigError, match=rf"{reason}: secret s3 not found") as failure:
        wait(cluster, Limits(timeout_s=8.0, start_grace_s=0.3, tick_s=0.1))
    assert failure.value.exit_code == 78


def test_reasons_that_alternate_are_one_problem(
    cluster: Cluster, put_job: Put, put_pod: Put
) -> None:
    put_job("Created")
    put_pod(0, waiting=("ErrImagePull", "not found"))
    thread = later(
        *[lambda reason=reason: put_pod(0, waiting=(reason, "not found"))
          for reason in ("ImagePullBackOff", "ErrImagePull") * 8],
        pause_s=0.1,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="not found"):
        wait(cluster, Limits(timeout_s=8.0, start_grace_s=0.5, tick_s=0.05))
    assert thread.is_alive()  # they went on alternating
    thread.join()


def test_a_server_that_never_answers(cluster: Cluster, kube: FakeKube, put_job: Put) -> None:
    put_job("Running")
    kube.away = True
    with pytest.raises(TransientError, match="not answered in time"):
        wait(cluster, Limits(timeout_s=0.3, start_grace_s=60.0, tick_s=0.1))


def test_a_pull_that_works_in_the_end_is_no_failure(
    cluster: Cluster, put_job: Put, put_pod: Put
) -> None:
    put_job("Created")
    put_pod(0, waiting=("ErrImagePull", "rate limit"))
    thread = later(lambda: put_pod(0), lambda: put_job("Succeeded"), pause_s=0.2)
    limits = Limits(timeout_s=8.0, start_grace_s=0.5, tick_s=0.05)
    assert wait(cluster, limits)[0] == "Succeeded"
    thread.join()


def test_a_volume_that_is_missing_shows_in_events_only(
    cluster: Cluster, kube: FakeKube, put_job: Put, put_pod: Put
) -> None:
    put_job("Created")
    pod = put_pod(0, waiting=("ContainerCreating", ""))
    about = {"uid": pod["metadata"]["uid"]}
    what = 'MountVolume.SetUp failed: configmap "demo" not found'
    event = {"metadata": {"name": "e1"}, "involvedObject": about, "type": "Warning"}
    event |= {"apiVersion": "v1", "reason": "FailedMount", "message": what}
    kube.put("events", event)
    with pytest.raises(ConfigError, match=r"configmap .* not found"):
        wait(cluster, Limits(timeout_s=8.0, start_grace_s=0.4, tick_s=0.1))


def test_a_cancelled_run_ends_when_its_pods_have(
    cluster: Cluster, put_job: Put, put_pod: Put
) -> None:
    put_job("Running")
    put_pod(0)
    cancelled = {"naics.dev/cancelled": "2026-01-01T00:00:00+00:00"}
    thread = later(
        lambda: put_job("Running", annotations=cancelled), lambda: put_pod(0, exit_code=143)
    )
    with pytest.raises(RunFailedError, match="was cancelled") as failure:
        wait(cluster)
    thread.join()
    assert failure.value.exit_code == 143


@pytest.mark.parametrize("fault", ["410", "reset", "garbage", "500"])
def test_a_watch_that_breaks_is_taken_up_again(
    fault: str, cluster: Cluster, kube: FakeKube, put_job: Put, put_pod: Put
) -> None:
    put_job("Running")
    kube.faults += [("watch", fault)] * 6
    thread = later(lambda: put_pod(0, exit_code=78), lambda: put_job("Failed"))
    with pytest.raises(RunFailedError) as failure:
        wait(cluster)
    thread.join()
    assert failure.value.exit_code == 78
    assert not [each for each in kube.faults if each[1] == fault][6:]


def test_credentials_are_read_again(
    cluster: Cluster, kube: FakeKube, put_job: Put, tmp_path: Path
) -> None:
    put_job("Running")

    def rotate() -> None:
        kube.tokens = {"second"}
        time.sleep(0.3)  # whoever renews the token is late
        (tmp_path / "token").write_text("second")

    thread = later(rotate, lambda: put_job("Succeeded"))
    assert wait(cluster)[0] == "Succeeded"
    thread.join()


def test_wrong_credentials_are_told_at_once(cluster: Cluster, kube: FakeKube, put_job: Put) -> None:
    put_job("Running")
    kube.tokens = {"another"}
    with pytest.raises(ApiError, match="Unauthorized") as failure:
        wait(cluster)
    assert "log in" in failure.value.hint
    assert len(kube.requests) <= 4  # each of two collections: with the old token, and read again


def test_a_server_that_is_away_for_a_time(
    cluster: Cluster, kube: FakeKube, put_job: Put, caplog: pytest.LogCaptureFixture
) -> None:
    put_job("Running")
    thread = later(lambda: setattr(kube, "away", True), lambda: put_job("Succeeded"),
                   lambda: setattr(kube, "away", False), pause_s=0.4)  # fmt: skip
    assert wait(cluster)[0] == "Succeeded"
    thread.join()
    assert "kube.watch_broken" in caplog.messages or "kube.retry" in caplog.messages


def test_a_server_that_stays_away(
    cluster: Cluster, kube: FakeKube, put_job: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = Patience(attempts=1_000_000, base_s=0.02, cap_s=0.05, budget_s=0.3)
    monkeypatch.setattr(cluster, "timing", replace(cluster.timing, patience=short))
    put_job("Running")
    thread = later(lambda: setattr(kube, "away", True))
    with pytest.raises(TransientError, match="cannot be reached"):
        wait(cluster)
    thread.join()


def test_what_may_not_be_watched_is_an_error(
    cluster: Cluster, kube: FakeKube, put_job: Put
) -> None:
    put_job("Running")
    words = 'pods is forbidden: User "ci" cannot list resource "pods"'
    kube.refusals["GET", "pods"] = (403, "Forbidden", words)
    with pytest.raises(NaicsJobError, match="cannot list resource") as failure:
        wait(cluster)
    assert failure.value.exit_code == 78
    assert "Role" in failure.value.hint
