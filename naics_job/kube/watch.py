"""Follow a run and its pods through lost connections, expired versions and restarts of the server.

List, then watch from the version of the list; list again when that version is too old (410). Each
collection has a thread of its own; the caller gets states of the whole run.
"""

import json
import logging
import math
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from naics_job.errors import NaicsJobError, TransientError
from naics_job.kube.api import Cluster
from naics_job.kube.failures import ExpiredError, NotFoundError
from naics_job.kube.kinds import Kind
from naics_job.kube.paths import Json, path_of
from naics_job.kube.pods import PodView, view_of
from naics_job.kube.state import RunState, state_of
from naics_job.observability.logs import event
from naics_job.storage.retry import jitter_s

log = logging.getLogger(__name__)
GONE = 410
CALM_S = 1.0  # a watch that ends sooner without an event is asked for again after a pause


@dataclass(frozen=True)
class Change:
    """What became of a collection: all of it after a list, one object after an event."""

    collection: str
    objects: Sequence[Json]
    whole: bool
    gone: bool = False  # what is told is the last that was known of them


class StoppedError(NaicsJobError):
    """Ends the thread of a watch that was waiting for the server."""


class Reflector(threading.Thread):
    """Keeps telling what is in one collection; ends with the error it cannot get over."""

    def __init__(
        self,
        cluster: Cluster,
        collection: str,
        path: str,
        selector: Mapping[str, str],
        tell: Callable[[Change | NaicsJobError], None],
    ) -> None:
        super().__init__(name=f"watch-{collection}", daemon=True)
        self.cluster, self.collection = cluster, collection
        self.path, self.selector, self.tell = path, selector, tell
        self.stopping = threading.Event()
        self._rng, self._failures = random.Random(), 0

    def run(self) -> None:
        """List and watch until stopped."""
        try:
            while not self.stopping.is_set():
                listed = self.cluster.patiently(self._list, self._nap)
                self.tell(Change(self.collection, listed.get("items") or [], whole=True))
                self._watch(listed["metadata"]["resourceVersion"])
        except NaicsJobError as error:
            self.tell(error)

    def _list(self) -> Json:
        return self.cluster.ask(self.path, **self.selector)

    def _nap(self, seconds: float) -> None:
        if self.stopping.wait(seconds):
            raise StoppedError("nobody watches any more")

    def _watch(self, version: str) -> None:
        """Tell of events from `version` on; returns when the collection must be listed again."""
        while not self.stopping.is_set():
            before, began = version, time.monotonic()
            try:
                version = self._one_watch(version)
            except ExpiredError:
                event(log, logging.INFO, "kube.list_again", collection=self.collection)
                return
            except TransientError as error:
                self._bear(error)
                return  # a list has retries of its own, and tells what was missed
            self._failures = 0
            if version == before and time.monotonic() - began < CALM_S:
                self.stopping.wait(self._rng.uniform(0.0, CALM_S))

    def _one_watch(self, version: str) -> str:
        """Watch until the server ends the answer; returns the version that was reached.

        Raises:
            ExpiredError: `version` is too old.
            TransientError: the connection broke.
        """
        timing = self.cluster.timing
        query = {
            **self.selector,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(timing.watch_s),
        }
        read_s = timing.watch_s + timing.watch_slack_s
        for line in self.cluster.lines(self.path, query, read_s):
            if self.stopping.is_set():
                break
            kind, found = _parsed(line)
            if kind == "ERROR":
                _raise(found)
            version = found["metadata"]["resourceVersion"]
            if kind != "BOOKMARK":
                gone = kind == "DELETED"
                self.tell(Change(self.collection, [found], whole=False, gone=gone))
        return version

    def _bear(self, error: TransientError) -> None:
        """Tell of trouble and wait: longer each time, until a watch ends well."""
        if self.stopping.is_set():
            return
        patience = self.cluster.timing.patience
        reason = str(error.args[0])
        event(log, logging.WARNING, "kube.watch_broken", collection=self.collection, error=reason)
        self._failures += 1
        self.stopping.wait(jitter_s(self._failures, patience.base_s, patience.cap_s, self._rng))


class RunWatch:
    """A run under watch; use it with `with`.

    Attributes:
        seen: every pod that was seen, by uid, as it was last.
    """

    def __init__(self, cluster: Cluster, kind: Kind, name: str) -> None:
        self.kind, self.name = kind, name
        self.seen: dict[str, PodView] = {}
        self._news: queue.Queue[Change | NaicsJobError] = queue.Queue()
        self._objects: dict[str, dict[str, Json]] = {}
        pods = path_of("v1", cluster.namespace, "pods")
        job_selector = {"fieldSelector": f"metadata.name={name}"}
        pod_selector = {"labelSelector": f"{kind.pod_label}={name}"}
        collection = kind.path(cluster.namespace)
        tell = self._news.put
        self._reflectors = (
            Reflector(cluster, "runs", collection, job_selector, tell),
            Reflector(cluster, "pods", pods, pod_selector, tell),
        )

    def __enter__(self) -> "RunWatch":
        for reflector in self._reflectors:
            reflector.start()
        return self

    def __exit__(self, *_: object) -> None:
        for reflector in self._reflectors:
            reflector.stopping.set()

    def states(self, tick_s: float, deadline: float = math.inf) -> Iterator[RunState]:
        """The state of the run whenever it changed, and at least every `tick_s` seconds.

        Args:
            tick_s: seconds.
            deadline: for the first state, by `time.monotonic`.

        Raises:
            NotFoundError: the run is not there, or no longer.
            NaicsJobError: the server refuses, or was away for longer than we are patient.
        """
        uid = ""
        while True:
            self._take(tick_s)
            if len(self._objects) < len(self._reflectors):
                if time.monotonic() >= deadline:
                    raise TransientError(f"{self.name}: the API server has not answered in time")
                continue  # one of the first two lists is still to come
            job = next(iter(self._objects["runs"].values()), None)
            if job is None or uid not in ("", job["metadata"]["uid"]):
                raise _missing(self.kind, self.name, followed=bool(uid))
            uid = job["metadata"]["uid"]
            present = [self.seen[uid] for uid in self._objects["pods"]]
            yield state_of(self.kind, job, present)

    def _take(self, timeout_s: float) -> None:
        """Take in what is new; waits for the first piece of it."""
        try:
            news = self._news.get(timeout=timeout_s)
            while True:
                if isinstance(news, NaicsJobError):
                    raise news
                self._apply(news)
                news = self._news.get_nowait()
        except queue.Empty:
            return

    def _apply(self, change: Change) -> None:
        objects = {} if change.whole else self._objects.get(change.collection, {})
        for found in change.objects:
            uid = found["metadata"]["uid"]
            objects[uid] = found
            if change.collection == "pods":
                self.seen[uid] = view_of(found, self.kind.container)
            if change.gone:
                del objects[uid]
        self._objects[change.collection] = objects


def _missing(kind: Kind, name: str, followed: bool) -> NotFoundError:
    if not followed:
        hint = "see which runs there are: naics-embedder job list"
        return NotFoundError(f"there is no {kind.name} {name}", hint)
    hint = "what it saved is in its checkpoint folder; submit it again to go on from there"
    return NotFoundError(f"{kind.name} {name} was deleted meanwhile", hint)


def _parsed(line: bytes) -> tuple[str, Json]:
    try:
        parsed = json.loads(line)
        return str(parsed["type"]), parsed["object"]
    except (ValueError, KeyError, TypeError) as error:
        raise TransientError(f"the watch sent what is no event: {line[:80]!r}") from error


def _raise(status: Json) -> None:
    text = f"the watch ended: {status.get('message') or status.get('reason')}"
    if status.get("code") == GONE:
        raise ExpiredError(text, "")
    raise TransientError(text)
