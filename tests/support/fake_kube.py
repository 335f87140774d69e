"""A Kubernetes API server on the loopback, as far as `naics_job.kube` uses one, with faults.

It keeps objects, versions, watches, dry runs, merge patches and logs. It knows no schema and runs
no controller: tests play the operator and the kubelet with `put` and `drop`.
"""

import itertools
import threading
from contextlib import contextmanager
from copy import deepcopy
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import yaml
from fake_kube_http import KubeHandler


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        return  # clients hang up, and so do tests


class FakeKube:
    """Use it with `with`; `url` is where it listens.

    Attributes:
        unknown: plurals of kinds that it does not know.
        refusals: (method, plural) -> status, reason, message of every such request.
        faults: what befalls the next requests: ("watch" | "any" | plural, what), see `KubeHandler`.
        tokens: bearer tokens it takes.
        away: it hangs up on everybody.
        warnings: plural -> texts of Warning headers.
        requests: method, path and query of each request.
    """

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.history: list[tuple[int, str, str, Any]] = []  # version, collection, type, object
        self.logs: dict[tuple[str, bool], list[str]] = {}  # pod, previous -> timestamped lines
        self.unknown: set[str] = set()
        self.refusals: dict[tuple[str, str], tuple[int, str, str]] = {}
        self.faults: list[tuple[str, str]] = []
        self.tokens = {"first"}
        self.away = False
        self.warnings: dict[str, list[str]] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.news = threading.Condition(threading.RLock())
        self._numbers = itertools.count(1)
        self._server = _Server(("127.0.0.1", 0), KubeHandler)
        self._server.daemon_threads = True
        self._server.owner = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.away = True
        self._server.shutdown()
        self._server.server_close()

    def kubeconfig(self, folder: Path, namespace: str = "ml") -> Path:
        """Write a kubeconfig whose token is in a file `token` beside it."""
        (folder / "token").write_text("first")
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.url}}],
            "users": [{"name": "test", "user": {"tokenFile": str(folder / "token")}}],
            "contexts": [
                {
                    "name": "test",
                    "context": {"cluster": "test", "user": "test", "namespace": namespace},
                }
            ],
        }
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path

    def put(self, plural: str, found: Any, namespace: str = "ml") -> Any:
        """Create or replace an object; returns it as it is kept."""
        with self.news:
            collection = _path(found["apiVersion"], namespace, plural)
            kept = self.objects.setdefault(collection, {})
            name = found["metadata"]["name"]
            old, found = kept.get(name), deepcopy(found)
            if (
                old
                and found["metadata"].get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]
            ):
                self.drop(plural, name, found["apiVersion"], namespace)
                old = None
            version = next(self._numbers)
            meta = found["metadata"]
            meta["namespace"] = namespace
            meta.setdefault("uid", old["metadata"]["uid"] if old else f"uid-{version}")
            meta.setdefault("creationTimestamp", f"2026-01-01T00:00:{version % 60:02d}Z")
            meta["resourceVersion"] = str(version)
            kept[name] = found
            kind = "MODIFIED" if old and old["metadata"]["uid"] == meta["uid"] else "ADDED"
            self.history.append((version, collection, kind, deepcopy(found)))
            self.news.notify_all()
            return deepcopy(found)

    def drop(self, plural: str, name: str, api_version: str = "v1", namespace: str = "ml") -> None:
        """Delete an object."""
        with self.news:
            collection = _path(api_version, namespace, plural)
            gone = self.objects[collection].pop(name)
            version = next(self._numbers)
            gone["metadata"]["resourceVersion"] = str(version)
            self.history.append((version, collection, "DELETED", gone))
            self.news.notify_all()

    def one(self, plural: str, name: str, api_version: str = "v1", namespace: str = "ml") -> Any:
        """The object, None when it is not there."""
        return self.objects.get(_path(api_version, namespace, plural), {}).get(name)

    def write_log(self, pod: str, *lines: str, previous: bool = False) -> None:
        """Append timestamped lines to the log of a pod."""
        with self.news:
            self.logs.setdefault((pod, previous), []).extend(lines)
            self.news.notify_all()

    @contextmanager
    def gone_away(self, seconds: float) -> Any:
        """Hang up on everybody for a time, beginning now; the body runs meanwhile."""
        self.away = True
        timer = threading.Timer(seconds, lambda: setattr(self, "away", False))
        timer.start()
        try:
            yield
        finally:
            timer.join()

    @property
    def version(self) -> str:
        return str(self.history[-1][0] if self.history else 0)


def _path(api_version: str, namespace: str, plural: str) -> str:
    root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    return f"{root}/namespaces/{namespace}/{plural}"
