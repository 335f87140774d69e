"""Kubernetes Events on the object of a run: what training has to tell to `kubectl describe`.

Best effort: a thread of its own sends them, nobody waits for it but for a moment at the end. A
server that is away is asked again until it is back; what it refuses ends it, told once. The pod
needs a service account that may get the run and create events; may it get and patch them too, then
what every start tells is counted.
"""

import hashlib
import logging
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from naics_job.errors import NaicsJobError, TransientError
from naics_job.kube.account import has_token
from naics_job.kube.kinds import KINDS, Kind
from naics_job.kube.paths import Json, path_of
from naics_job.observability.logs import event

if TYPE_CHECKING:
    from naics_job.kube.api import Cluster

log = logging.getLogger(__name__)
T = TypeVar("T")
VERSION = "v1"
PHASE_STARTED = "PhaseStarted"  # the reason of what tells of a SADC phase
CONTROLLER = "naics.dev/trainer"
MESSAGE_LIMIT = 1000  # the API takes below 1 kB
INSTANCE_LIMIT = 128
DRAIN_S = 2.0
AGAIN_S = 10.0  # first pause while the server is away
LONGEST = 30  # pause, as a multiple of it


@dataclass(frozen=True)
class Target:
    """The object that events are about, and who tells of it; from the pod's environment."""

    kind: Kind
    name: str
    namespace: str
    pod: str


@dataclass(frozen=True)
class Note:
    """One event: `reason` and `action` in CamelCase, `text` for people."""

    reason: str
    text: str
    action: str
    warning: bool = False


def target_in(environ: Mapping[str, str]) -> Target | None:
    """The run that this pod is part of, None outside of a cluster or of a run."""
    kind = KINDS.get(environ.get("NAICS_JOB_KIND", ""))
    name, namespace = environ.get("NAICS_JOB_NAME"), environ.get("NAICS_NAMESPACE")
    if kind is None or not name or not namespace or "KUBERNETES_SERVICE_HOST" not in environ:
        return None
    return Target(kind, name, namespace, environ.get("NAICS_POD_NAME") or "unknown")


def sender_in(environ: Mapping[str, str]) -> "EventSender | None":
    """What sends events of this pod's run, None where there is no run or no service account."""
    target = target_in(environ)
    if target is None:
        return None
    return EventSender(target, lambda: _own_cluster(target)) if has_token() else None


class EventSender:
    """Sends notes in the order they come, from a thread that ends with the process.

    Args:
        target: whom they are about.
        connect: called by the thread, as it takes its time.
        again_s: first pause while the server is away, seconds; the next ones are longer.
    """

    def __init__(
        self, target: Target, connect: "Callable[[], Cluster]", again_s: float = AGAIN_S
    ) -> None:
        self.target, self.again_s = target, again_s
        self._connect = connect
        self._closing = threading.Event()
        self._notes: queue.Queue[tuple[Note, datetime] | None] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._sent: set[Note] = set()

    def send(self, note: Note) -> None:
        """Take a note and return at once; the same one is sent once by a process."""
        if note in self._sent:
            return
        self._sent.add(note)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="kube-events", daemon=True)
            self._thread.start()
        self._notes.put((note, datetime.now(UTC)))

    def close(self, timeout_s: float = DRAIN_S) -> None:
        """Wait a moment for what is still to be sent."""
        if self._thread is not None:
            self._closing.set()
            self._notes.put(None)
            self._thread.join(timeout_s)
            self._thread = None

    def _work(self) -> None:
        path = self.target.kind.path(self.target.namespace, self.target.name)
        try:
            cluster = self._connect()
            uid = self._patiently(lambda: str(cluster.get(path)["metadata"]["uid"]))
            while (taken := self._notes.get()) is not None:
                note, at = taken
                self._patiently(partial(self._post, cluster, uid, note, at))
        except NaicsJobError as error:
            event(log, logging.WARNING, "events.off", run=self.target.name,
                  error=str(error.args[0]), advice=error.hint)  # fmt: skip

    def _patiently(self, action: Callable[[], T]) -> T:
        """Try until the server is there; after `close` once more."""
        tries = 0
        while True:
            closing = self._closing.is_set()
            try:
                return action()
            except TransientError as error:
                if closing:
                    raise
                if tries == 0:
                    event(log, logging.WARNING, "events.late", run=self.target.name,
                          error=str(error.args[0]))  # fmt: skip
                self._closing.wait(self.again_s * min(2**tries, LONGEST))
                tries += 1

    def _post(self, cluster: "Cluster", uid: str, note: Note, at: datetime) -> None:
        """Create the event; where an earlier start of the run told the same, count it up."""
        from naics_job.kube.failures import ApiError, ConflictError

        body = event_body(self.target, uid, note, at)
        collection = path_of(VERSION, self.target.namespace, "events")
        try:
            cluster.send("POST", collection, body=body)
        except ConflictError:
            try:
                self._count(cluster, f"{collection}/{body['metadata']['name']}", body)
            except ApiError as error:  # it is there, which is what matters
                event(log, logging.DEBUG, "events.not_counted", error=str(error.args[0]))

    @staticmethod
    def _count(cluster: "Cluster", path: str, body: Json) -> None:
        from naics_job.kube.api import MERGE

        count = int(cluster.get(path).get("count") or 1) + 1
        patch = {"count": count, "lastTimestamp": body["lastTimestamp"]}
        cluster.send("PATCH", path, None, patch, MERGE)


def event_body(target: Target, uid: str, note: Note, now: datetime) -> Json:
    """The event as the API takes it; its name is the same for the same note about the same run."""
    same = "\n".join((uid, note.reason, note.text))
    digest = hashlib.sha256(same.encode()).hexdigest()[:16]
    time = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": VERSION,
        "kind": "Event",
        "metadata": {"name": f"{target.name}.{digest}", "namespace": target.namespace},
        "involvedObject": {
            "apiVersion": target.kind.api_version,
            "kind": target.kind.name,
            "name": target.name,
            "namespace": target.namespace,
            "uid": uid,
        },
        "reason": note.reason,
        "action": note.action,
        "message": note.text.encode()[:MESSAGE_LIMIT].decode(errors="ignore"),
        "type": "Warning" if note.warning else "Normal",
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
        "source": {"component": CONTROLLER},
        "reportingComponent": CONTROLLER,
        "reportingInstance": target.pod[:INSTANCE_LIMIT],
    }


def _own_cluster(target: Target) -> "Cluster":
    """The cluster of this pod, asked with little patience."""
    from naics_job.kube.api import Cluster, Timing
    from naics_job.kube.connect import account_client
    from naics_job.storage.retry import Patience

    patience = Patience(attempts=2, base_s=0.5, cap_s=4.0, budget_s=20.0)
    timing = Timing(connect_s=3.0, read_s=5.0, patience=patience)
    return Cluster(account_client, target.namespace, timing)
