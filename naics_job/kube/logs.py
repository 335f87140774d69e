"""The log of every rank, each line once: through streams that break, restarts and new pods.

Lines are asked for with their timestamps. After a break the server is asked for everything since
a little before the newest line, because it knows whole seconds only, and because lines of stdout
and stderr may be out of order; what was printed before is left out, as often as it was printed.
"""

import logging
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta

from naics_job.errors import NaicsJobError, TransientError
from naics_job.kube.api import Cluster
from naics_job.kube.failures import NotFoundError
from naics_job.kube.paths import path_of
from naics_job.kube.pods import PodView, view_of
from naics_job.observability.logs import event
from naics_job.storage.retry import jitter_s

log = logging.getLogger(__name__)
Sink = Callable[[int | None, str], None]  # rank and line, without its timestamp
KEPT = 20_000  # lines of a pod that are remembered
OVERLAP = timedelta(seconds=5)
STREAM_SILENCE_S = 3600.0  # a run may be quiet for long; TCP keep-alive finds a dead peer
PAUSE_S = 1.0
DRAIN_S = 15.0


class Window:
    """The newest lines of a pod name, and which of them the next stream will bring again."""

    def __init__(self) -> None:
        self._kept: deque[bytes] = deque(maxlen=KEPT)
        self._again: Counter[bytes] = Counter()
        self._uid, self._newest = "", datetime.min.replace(tzinfo=UTC)

    def open(self, uid: str) -> str | None:
        """Begin a stream of the pod `uid`; returns since when to ask, None for all of it."""
        self._again = Counter(self._kept)
        if uid != self._uid:  # another pod of that name, maybe on a node with another clock
            self._uid, self._newest = uid, datetime.min.replace(tzinfo=UTC)
        if self._newest.year == 1:
            return None
        return (self._newest - OVERLAP).strftime("%Y-%m-%dT%H:%M:%SZ")

    def new_text(self, line: bytes) -> str | None:
        """The text of a line, None when it was given before."""
        if self._again[line] > 0:
            self._again[line] -= 1
            return None
        self._kept.append(line)
        stamp, _, text = line.decode(errors="replace").partition(" ")
        try:
            self._newest = max(self._newest, datetime.fromisoformat(stamp).astimezone(UTC))
        except ValueError:  # words of the kubelet itself have no timestamp
            return line.decode(errors="replace")
        return text


class LogReader:
    """Reads the log of one pod name into `sink`.

    Args:
        cluster: where the pod is.
        container: whose log.
        sink: what takes each line.
        tail: how many of the lines that are there already; None: all. Later ones come anyway.
    """

    def __init__(
        self, cluster: Cluster, container: str, sink: Sink, tail: int | None = None
    ) -> None:
        self.cluster, self.container, self.sink = cluster, container, sink
        self.tail, self._old = tail, ""  # uid of the pod that may have written before
        self.window = Window()
        self.finished = ""  # uid of the pod whose log was read to its end
        self._restarts: dict[str, int] = {}
        self._rng = random.Random()

    def read(self, name: str, follow: bool, stopping: threading.Event) -> None:
        """Read until the pod has ended and all is read, or it is gone, or `stopping` is set.

        Raises:
            NaicsJobError: logs may not be read, or the server was away for too long.
        """
        failures = 0
        while not stopping.is_set():
            pod = self._pod(name)
            if pod is None or (not pod.started and not follow):
                return
            if not pod.started:
                stopping.wait(PAUSE_S)
                continue
            try:
                self._read_once(pod, follow, stopping)
            except NotFoundError:
                return
            except TransientError as error:
                failures += 1
                self._bear(name, error, failures, stopping)
                continue
            failures = 0
            after = self._pod(name) if follow else None
            if after is None or self._read_to_its_end(pod, after):
                self.finished = pod.uid
                return
            stopping.wait(self._rng.uniform(0.0, PAUSE_S))

    def _pod(self, name: str) -> PodView | None:
        try:
            path = path_of("v1", self.cluster.namespace, "pods", name)
            return view_of(self.cluster.get(path), self.container)
        except NotFoundError:
            return None

    @staticmethod
    def _read_to_its_end(before: PodView, after: PodView) -> bool:
        """Whether the stream ended because the pod has, and not a container that starts again."""
        ended = after.phase in ("Succeeded", "Failed") or after.exit_code is not None
        same = after.uid == before.uid and after.restarts == before.restarts
        return same and ended and before.exit_code is not None

    def _read_once(self, pod: PodView, follow: bool, stopping: threading.Event) -> None:
        if self.tail is not None and not self._old:
            self._old, self._restarts[pod.uid] = pod.uid, pod.restarts
        if pod.restarts > self._restarts.get(pod.uid, 0):
            self._take(pod, self._lines(pod, previous=True, follow=False), stopping)
            self._restarts[pod.uid] = pod.restarts
        self._take(pod, self._lines(pod, previous=False, follow=follow), stopping)

    def _take(self, pod: PodView, lines: Iterable[bytes], stopping: threading.Event) -> None:
        for line in lines:
            text = self.window.new_text(line)
            if text is not None:
                self.sink(pod.rank, text)
            if stopping.is_set():
                return

    def _lines(self, pod: PodView, previous: bool, follow: bool) -> Iterator[bytes]:
        query = {"container": self.container, "timestamps": "true"}
        if previous:
            query["previous"] = "true"
        if follow:
            query["follow"] = "true"
        if (since := self.window.open(pod.uid)) is not None:
            query["sinceTime"] = since
        elif pod.uid == self._old:
            query["tailLines"] = str(self.tail)
        path = path_of("v1", self.cluster.namespace, "pods", pod.name, "log")
        read_s = STREAM_SILENCE_S if follow else self.cluster.timing.read_s
        return self.cluster.lines(path, query, read_s)

    def _bear(
        self, name: str, error: TransientError, failures: int, stopping: threading.Event
    ) -> None:
        patience = self.cluster.timing.patience
        reason = str(error.args[0])
        event(log, logging.WARNING, "kube.log_broken", pod=name, error=reason)
        stopping.wait(jitter_s(failures, patience.base_s, patience.cap_s, self._rng))


class Follower:
    """Follows the logs of all ranks, or of one, in a thread per pod; use it with `with`.

    Args:
        cluster: where the pods are.
        container: whose log.
        sink: what takes each line.
        rank: of the one pod to follow; None: all.
        tail: how many lines of those that pods of the first `update` have written; None: all.

    Attributes:
        error: the first thing that kept a log from being read.
    """

    def __init__(
        self, cluster: Cluster, container: str, sink: Sink, rank: int | None,
        tail: int | None = None,
    ) -> None:  # fmt: skip
        self.cluster, self.container, self.rank, self._tail = cluster, container, rank, tail
        self.error: NaicsJobError | None = None
        self._sink, self._lock = sink, threading.Lock()
        self._stopping = threading.Event()
        self._readers: dict[str, tuple[LogReader, threading.Thread]] = {}

    def __enter__(self) -> "Follower":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """After a good end wait for what is still to come; after an error for nothing."""
        if kind is None or issubclass(kind, NaicsJobError):
            deadline = time.monotonic() + DRAIN_S
            for each in self._readers.values():
                each[1].join(max(0.0, deadline - time.monotonic()))
        self._stopping.set()

    def update(self, pods: Iterable[PodView]) -> None:
        """Read what is new among the pods of the run."""
        for pod in pods:
            if not pod.started or self.rank not in (None, pod.rank):
                continue
            known = self._readers.get(pod.name)
            if known is not None and known[1].is_alive():
                continue
            reader = known[0] if known else self._reader()
            if reader.finished == pod.uid or self.error is not None:
                continue
            thread = threading.Thread(
                target=self._read, args=(reader, pod.name), name=f"log-{pod.name}", daemon=True
            )
            self._readers[pod.name] = (reader, thread)
            thread.start()
        self._tail = None

    def _reader(self) -> LogReader:
        return LogReader(self.cluster, self.container, self._put, self._tail)

    def _read(self, reader: LogReader, name: str) -> None:
        try:
            reader.read(name, follow=True, stopping=self._stopping)
        except NaicsJobError as error:
            if self.error is None:
                self.error = error
                text = str(error.args[0])
                event(log, logging.WARNING, "kube.no_logs", error=text, advice=error.hint)

    def _put(self, rank: int | None, line: str) -> None:
        with self._lock:
            self._sink(rank, line)


def read_logs(
    cluster: Cluster, container: str, pods: Iterable[PodView], sink: Sink,
    tail: int | None = None,
) -> None:  # fmt: skip
    """Read what the pods have written so far, or their newest lines, one rank after the other.

    Raises:
        NaicsJobError: logs may not be read, or the server was away for too long.
    """
    for pod in pods:
        LogReader(cluster, container, sink, tail).read(pod.name, False, threading.Event())
