"""The HTTP side of `fake_kube`: requests, watches, logs, and the faults that befall them."""

import json
import re
import time
from copy import deepcopy
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

COLLECTION = re.compile(
    r"(/api/v1|/apis/[^/]+/[^/]+)/namespaces/([^/]+)/([a-z]+)(?:/([^/]+))?(/log)?$"
)
STREAM_END_S = 0.4  # a watch is shorter here than asked for


class KubeHandler(BaseHTTPRequestHandler):
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
        self.kube = self.server.owner
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
        sent, tail, container = 0, self.query.get("tailLines"), self._container()
        while not self.kube.away:
            with self.kube.news:
                same = self._container() == container and container[-1]
                lines = list(self.kube.logs.get((self.name, previous), []))
                if tail is not None:  # of what is there when it is asked
                    sent, tail = max(0, len(lines) - int(tail)), None
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
