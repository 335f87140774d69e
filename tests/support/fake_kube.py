"""A Kubernetes API server on the loopback, as far as `naics_job.kube` uses one, with faults.

It keeps objects, versions, watches, dry runs, merge patches and logs. It knows no schema and runs
no controller: tests play the operator and the kubelet with `put` and `drop`.
"""

import itertools
import json
import re
import threading
import time
from contextlib import contextmanager
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import yaml

COLLECTION = re.compile(
    r"(/api/v1|/apis/[^/]+/[^/]+)/namespaces/([^/]+)/([a-z]+)(?:/([^/]+))?(/log)?$"
)
STREAM_END_S = 0.4  # a watch is shorter here than asked for


class FakeKube:
    """Use it with `with`; `url` is where it listens.

    Attributes:
        unknown: plurals of kinds that it does not know.
        refusals: (method, plural) -> status, reason, message of every such request.
        faults: what befalls the next requests: ("watch" | "any" | plural, what), see `_Handler`.
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
        self._server = _Server(("127.0.0.1", 0), _Handler)
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


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        return  # clients hang up, and so do tests


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection. Faults: "reset" hangs up (a watch: after its first event), "410",
    "500", "garbage" (a watch sends what is no JSON)."""

    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, format: str, *args: object) -> None:
        return

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def do_PATCH(self) -> None:
        self._handle("PATCH")

    def do_DELETE(self) -> None:
        self._handle("DELETE")

    def _handle(self, method: str) -> None:  # noqa: PLR0911
        self.kube: FakeKube = self.server.owner
        parts = urlsplit(self.path)
        self.query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        if self.kube.away:
            return self._hang_up()
        self.kube.requests.append((method, parts.path, self.query))
        match = COLLECTION.match(parts.path)
        token = (self.headers.get("Authorization") or "").partition(" ")[2]
        if token not in self.kube.tokens:
            return self._status(401, "Unauthorized", "Unauthorized")
        if match is None or match[3] in self.kube.unknown:
            return self._status(404, "NotFound", "the server could not find the requested resource")
        root, namespace, plural, self.name, log = match.groups()
        self.collection = f"{root}/namespaces/{namespace}/{plural}"
        subject = "log" if log else plural
        if (method, subject) in self.kube.refusals:
            return self._status(*self.kube.refusals[method, subject])
        self.fault = self._fault(subject)
        if self.fault == "reset" and "watch" not in self.query and not log:
            return self._hang_up()
        if self.fault.isdigit() and self.fault != "410":
            return self._status(int(self.fault), "InternalError", "made to fail")
        if log:
            return self._log()
        getattr(self, f"_{method.lower()}")(body, plural)

    def _fault(self, plural: str) -> str:
        kinds = {"any", plural, "watch" if "watch" in self.query else ""}
        for each in self.kube.faults:
            if each[0] in kinds:
                self.kube.faults.remove(each)
                return each[1]
        return ""

    def _get(self, body: Any, plural: str) -> None:
        kept = self.kube.objects.get(self.collection, {})
        if self.name is not None:
            if self.name not in kept:
                return self._status(404, "NotFound", f'{plural} "{self.name}" not found')
            return self._json(200, kept[self.name])
        if "watch" in self.query:
            return self._watch()
        with self.kube.news:
            items = [deepcopy(each) for each in kept.values() if self._selected(each)]
            version = self.kube.version
        self._json(200, {"items": items, "metadata": {"resourceVersion": version}})

    def _post(self, body: Any, plural: str) -> None:
        name = body["metadata"]["name"]
        if name in self.kube.objects.get(self.collection, {}):
            return self._status(409, "AlreadyExists", f'{plural} "{name}" already exists')
        if self.query.get("dryRun") != "All":
            namespace = self.collection.split("/namespaces/")[1].split("/")[0]
            body = self.kube.put(plural, body, namespace)
        else:
            body["metadata"]["uid"] = "dry"
        self._json(201, body, self.kube.warnings.get(plural, []))

    def _patch(self, body: Any, plural: str) -> None:
        kept = self.kube.objects.get(self.collection, {})
        if self.name not in kept:
            return self._status(404, "NotFound", f'{plural} "{self.name}" not found')
        merged = _merged(deepcopy(kept[self.name]), body)
        namespace = merged["metadata"]["namespace"]
        self._json(200, self.kube.put(plural, merged, namespace))

    def _delete(self, body: Any, plural: str) -> None:
        kept = self.kube.objects.get(self.collection, {})
        if self.name not in kept:
            return self._status(404, "NotFound", f'{plural} "{self.name}" not found')
        found = kept[self.name]
        self.kube.drop(plural, self.name, found["apiVersion"], found["metadata"]["namespace"])
        self._json(200, {"status": "Success"})

    def _watch(self) -> None:
        if self.fault == "410":
            self._begin()
            gone = {"code": 410, "reason": "Expired", "message": "too old resource version"}
            return self._end({"type": "ERROR", "object": gone})
        version, until = int(self.query["resourceVersion"]), time.monotonic() + STREAM_END_S
        self._begin()
        if self.fault == "garbage":
            self._chunk(b"not json\n")
            return self._end(None)
        while time.monotonic() < until and not self.kube.away:
            with self.kube.news:
                events = [each for each in self.kube.history if each[0] > version]
                if not events:
                    self.kube.news.wait(0.05)
            for version, collection, kind, found in events:  # noqa: B007
                if collection == self.collection and self._selected(found):
                    self._chunk(json.dumps({"type": kind, "object": found}).encode() + b"\n")
                    if self.fault == "reset":
                        return self._hang_up()
        if self.kube.away or self.fault == "reset":
            return self._hang_up()
        bookmark = {"metadata": {"resourceVersion": str(version)}}
        self._end({"type": "BOOKMARK", "object": bookmark})

    def _log(self) -> None:
        previous = self.query.get("previous") == "true"
        if self.name not in self.kube.objects.get(self.collection, {}):
            return self._status(404, "NotFound", f'pods "{self.name}" not found')
        since = self.query.get("sinceTime", "")[:19]  # the server takes whole seconds
        self._begin("text/plain")
        sent, container = 0, self._container()
        while not self.kube.away:
            with self.kube.news:
                same = self._container() == container and container[-1]
                lines = list(self.kube.logs.get((self.name, previous), []))
                if len(lines) == sent and same and not previous:
                    self.kube.news.wait(0.05)
                if self._container()[:2] != container[:2]:  # this log is that of another one
                    return self._end(None)
            for line in lines[sent:]:
                if line[:19] >= since:
                    self._chunk(line.encode() + b"\n")
                    if self.fault == "reset":
                        self._chunk(line.encode()[: len(line) // 2])  # and half of it again
                        return self._hang_up()
            done = len(lines) == sent
            sent = len(lines)
            if self.query.get("follow") != "true" or (done and (previous or not same)):
                return self._end(None)
        self._hang_up()

    def _container(self) -> tuple[str, int, bool]:
        """Pod, number and running of the container whose log is asked for."""
        pod = self.kube.objects[self.collection].get(self.name)
        if pod is None:
            return "", 0, False
        status = (pod.get("status", {}).get("containerStatuses") or [{}])[0]
        running = "running" in (status.get("state") or {})
        return pod["metadata"]["uid"], status.get("restartCount", 0), running

    def _selected(self, found: Any) -> bool:
        labels = found["metadata"].get("labels") or {}
        for each in filter(None, (self.query.get("labelSelector") or "").split(",")):
            key, equals, value = each.partition("=")
            unequal = key.endswith("!")
            has = key in labels if not equals else labels.get(key.rstrip("!")) == value
            if has == unequal:
                return False
        for each in (self.query.get("fieldSelector") or "").split(","):
            path, _, value = each.partition("=")
            here = found
            for key in filter(None, path.split(".")):
                here = (here or {}).get(key)
            if path and here != value:
                return False
        return True

    def _status(self, code: int, reason: str, message: str) -> None:
        self._json(code, {"kind": "Status", "code": code, "reason": reason, "message": message})

    def _json(self, code: int, body: Any, warnings: list[str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for text in warnings or []:
            self.send_header("Warning", f'299 - "{text}"')
        self.end_headers()
        self.wfile.write(data)

    def _begin(self, kind: str = "application/json") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _chunk(self, data: bytes) -> None:
        try:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()
        except OSError:
            self.close_connection = True

    def _end(self, last: Any) -> None:
        if last is not None:
            self._chunk(json.dumps(last).encode() + b"\n")
        try:
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()


def _merged(old: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    merged = old if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged
