"""Logs: every line once, in order, whatever happens to streams, containers and pods."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from fake_kube import FakeKube

from naics_job.kube.api import Cluster
from naics_job.kube.failures import ApiError
from naics_job.kube.kinds import KINDS
from naics_job.kube.logs import Follower, LogReader, read_logs
from naics_job.kube.pods import view_of

POD = "demo-0a1b2c3d-worker-0"
Put = Callable[..., Any]


def stamped(*texts: str, start: int = 0, fraction: str = ".5") -> list[str]:
    """Lines of one second each; several of the same second where `start` repeats."""
    return [f"2026-01-01T00:00:{start + n:02d}{fraction}Z {text}" for n, text in enumerate(texts)]


class Script:
    """Follows a pod while the test plays what happens to it."""

    def __init__(self, cluster: Cluster, kube: FakeKube, tail: int | None = None) -> None:
        self.lines: list[str] = []
        self.kube = kube
        self.follower = Follower(
            cluster, "pytorch", lambda rank, line: self.lines.append(line), None, tail
        )

    def look(self) -> None:
        pods = [self.kube.one("pods", POD)]
        self.follower.update([view_of(pod, "pytorch") for pod in pods if pod])

    def until(self, *expected: str) -> None:
        end = time.monotonic() + 30
        while len(self.lines) < len(expected) and time.monotonic() < end:
            self.look()
            time.sleep(0.02)
        time.sleep(0.1)  # what comes twice comes now
        assert self.lines == list(expected)


@pytest.fixture
def script(cluster: Cluster, kube: FakeKube, put_pod: Put) -> Any:
    put_pod(0)
    script = Script(cluster, kube)
    with script.follower:
        yield script
        put_pod(0, exit_code=0)


def test_lines_come_as_they_are_written(script: Script, kube: FakeKube) -> None:
    kube.write_log(POD, *stamped("a", "b"))
    script.until("a", "b")
    kube.write_log(POD, *stamped("c", start=2))
    script.until("a", "b", "c")


def test_a_stream_that_breaks_loses_and_repeats_nothing(script: Script, kube: FakeKube) -> None:
    kube.faults += [("log", "reset")] * 4  # each after one new line and a half
    kube.write_log(POD, *stamped("a", "b", "c"), *stamped("d", "e", start=2))
    script.until("a", "b", "c", "d", "e")


def test_lines_that_are_equal_are_told_as_often_as_they_were_written(
    script: Script, kube: FakeKube
) -> None:
    same = ["2026-01-01T00:00:07.123456789Z again"] * 3
    kube.faults += [("log", "reset")] * 2
    kube.write_log(POD, *same)
    script.until("again", "again", "again")


def test_lines_out_of_order_are_not_lost(script: Script, kube: FakeKube) -> None:
    kube.faults += [("log", "reset")] * 3
    kube.write_log(
        POD, *stamped("out", start=9), *stamped("err", start=8), *stamped("out2", start=9)
    )
    script.until("out", "err", "out2")


def test_the_tail_of_a_container_that_started_again(
    script: Script, kube: FakeKube, put_pod: Put
) -> None:
    kube.write_log(POD, *stamped("a"))
    script.until("a")
    kube.logs[POD, True] = stamped("a", "last words")
    kube.logs[POD, False] = stamped("new", start=20)
    kube.faults.append(("log", "reset"))
    put_pod(0, restarts=1, last_code=1)
    script.until("a", "last words", "new")


def test_a_new_pod_of_the_same_name_on_a_node_with_a_slow_clock(
    script: Script, kube: FakeKube, put_pod: Put
) -> None:
    kube.write_log(POD, *stamped("a", "b", start=30))
    script.until("a", "b")
    put_pod(0, exit_code=143)
    kube.drop("pods", POD)
    kube.logs[POD, False] = stamped("from the start", "b", start=1)
    put_pod(0, uid="another")
    script.until("a", "b", "from the start", "b")


def test_a_server_that_is_away_breaks_no_log(script: Script, kube: FakeKube) -> None:
    kube.write_log(POD, *stamped("a"))
    script.until("a")
    with kube.gone_away(0.4):
        kube.write_log(POD, *stamped("b", start=1))
    script.until("a", "b")


def test_all_that_was_written_without_following(
    cluster: Cluster, kube: FakeKube, put_pod: Put
) -> None:
    pods = [put_pod(0, exit_code=0), put_pod(1, restarts=1, last_code=75)]
    kube.write_log(POD, *stamped("zero"))
    other = "demo-0a1b2c3d-worker-1"
    kube.write_log(other, *stamped("before"), previous=True)
    kube.write_log(other, *stamped("after", start=5))
    found: list[tuple[int | None, str]] = []
    views = [view_of(pod, KINDS["PyTorchJob"].container) for pod in pods]
    read_logs(cluster, "pytorch", views, lambda rank, line: found.append((rank, line)))
    assert found == [(0, "zero"), (1, "before"), (1, "after")]


def test_only_the_newest_lines(cluster: Cluster, kube: FakeKube, put_pod: Put) -> None:
    pod = view_of(put_pod(0, restarts=1, last_code=75, exit_code=0), "pytorch")
    kube.write_log(POD, *stamped("before"), previous=True)
    kube.write_log(POD, *stamped("a", "b", "c", start=5))
    found: list[str] = []
    read_logs(cluster, "pytorch", [pod], lambda rank, line: found.append(line), tail=2)
    assert found == ["b", "c"]


def test_after_the_newest_lines_all_that_come(
    cluster: Cluster, kube: FakeKube, put_pod: Put
) -> None:
    put_pod(0)
    kube.write_log(POD, *stamped("a", "b", "c"))
    script = Script(cluster, kube, tail=1)
    with script.follower:
        script.until("c")
        kube.write_log(POD, *stamped("d", "e", start=3))
        script.until("c", "d", "e")
        put_pod(0, exit_code=143)
        kube.drop("pods", POD)
        kube.logs[POD, False] = stamped("f", "g", start=9)
        put_pod(0, uid="another")
        script.until("c", "d", "e", "f", "g")
        put_pod(0, uid="another", exit_code=0)


def test_logs_that_may_not_be_read(cluster: Cluster, kube: FakeKube, put_pod: Put) -> None:
    put_pod(0)
    kube.refusals["GET", "log"] = (403, "Forbidden", 'cannot get resource "pods/log"')
    script = Script(cluster, kube)
    with script.follower:
        script.look()
        time.sleep(0.3)
    assert isinstance(script.follower.error, ApiError)
    with pytest.raises(ApiError, match="pods/log"):
        read_logs(cluster, "pytorch", [view_of(kube.one("pods", POD), "pytorch")], print)


def test_a_line_without_a_timestamp_is_kept(cluster: Cluster, kube: FakeKube, put_pod: Put) -> None:
    put_pod(0, exit_code=0)
    kube.write_log(POD, "unable to retrieve container logs for containerd://1", *stamped("a"))
    lines: list[str] = []
    reader = LogReader(cluster, "pytorch", lambda rank, line: lines.append(line))
    reader.read(POD, False, threading.Event())
    assert lines == ["unable to retrieve container logs for containerd://1", "a"]
