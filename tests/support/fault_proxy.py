"""A proxy before an HTTP server that breaks chosen requests, on the loopback, for tests.

One connection carries one request, so that a broken one harms no other.
"""

import re
import socket
import socketserver
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, Self

Fault = Literal[
    "busy", "reset", "cut", "lost", "stall", "expired", "denied", "skewed", "region", "moved",
    "unknown",
]  # fmt: skip
"""busy     503 SlowDown, the server is not asked
reset    the connection breaks, the server is not asked
cut      half of the request reaches the server
lost     the server has done it, half of the answer comes back
stall    nothing is answered for `stall_s`, the server is not asked
expired  400 ExpiredToken, the server is not asked
denied, skewed, region, moved, unknown   other refusals, see ANSWERS"""

STALL_S = 3.0
ERROR = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{}</Code><Message>{}</Message></Error>'
ANSWERS = {
    "busy": ("503 Slow Down", ERROR.format("SlowDown", "Please reduce your request rate.")),
    "expired": ("400 Bad Request", ERROR.format("ExpiredToken", "The token has expired.")),
    "denied": ("403 Forbidden", ERROR.format("AccessDenied", "Access Denied")),
    "skewed": ("403 Forbidden", ERROR.format("RequestTimeTooSkewed", "The clocks differ.")),
    "region": ("400 Bad Request", ERROR.format("AuthorizationHeaderMalformed", "Wrong region.")),
    "moved": (
        "301 Moved Permanently\r\nx-amz-bucket-region: eu-north-1",
        ERROR.format("PermanentRedirect", "Another endpoint."),
    ),
    "unknown": ("501 Not Implemented", ERROR.format("NotImplemented", "If-None-Match")),
}
FOREVER = 1_000_000


class FaultProxy:
    """Forwards to `port`; `fail` and `down` say what goes wrong. Use it with `with`."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.down = False  # every connection is reset
        self.requests: list[str] = []  # since the last `fail` or `watch`: "PUT /bucket/key"
        self.released = threading.Event()  # ends all stalls
        self.pause: Callable[[str], float] = lambda line: 0.0  # seconds amid the body of a request
        self.paused: list[str] = []  # requests that are in such a pause now
        self._faults: dict[int, Fault] = {}
        self._pattern, self._left = re.compile(""), 0
        self._fault: Fault = "busy"
        self._lock = threading.Lock()
        self._server = _Server(self)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def fail(self, k: int, fault: Fault, times: int = 1) -> None:
        """Break the k-th request from now on, and the `times - 1` after it."""
        with self._lock:
            self.requests, self._left = [], 0
            self._faults = dict.fromkeys(range(k, k + times), fault)

    def fail_on(self, pattern: str, fault: Fault, times: int = FOREVER) -> None:
        """Break the next requests whose head (line with query, and headers) has `pattern`."""
        self.watch()
        with self._lock:
            self._pattern, self._fault, self._left = re.compile(pattern), fault, times

    def watch(self) -> None:
        """Count from here, and break nothing."""
        self.fail(1, "busy", 0)

    def next_fault(self, head: str) -> Fault | None:
        """Note a request; what shall go wrong with it."""
        with self._lock:
            self.requests.append(head.partition(" HTTP/")[0].partition("?")[0])
            if self.down:
                return "reset"
            if self._left > 0 and self._pattern.search(head):
                self._left -= 1
                return self._fault
            return self._faults.get(len(self.requests))

    @property
    def unused(self) -> int:
        """How often `fail_on` has not met its request yet."""
        return self._left

    def wait(self, line: str) -> None:
        """Wait as `pause` says of this request, visibly."""
        seconds = self.pause(line)
        if seconds <= 0:
            return
        with self._lock:
            self.paused.append(line)
        self.released.wait(seconds)
        with self._lock:
            self.paused.remove(line)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads, block_on_close, request_queue_size = True, False, 64

    def __init__(self, proxy: FaultProxy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        # no more than this is on its way: during a pause the client holds the rest of a body
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        self.proxy = proxy

    def handle_error(self, request: object, client_address: object) -> None:
        return  # a client that went away


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        proxy: FaultProxy = self.server.proxy  # type: ignore[attr-defined]
        head, rest = _read_head(self.request)
        if not head:
            return
        line = head.partition(b" HTTP/")[0].partition(b"?")[0].decode()
        proxy.wait(line)  # the client still has a part of the body, when that is large
        head, body, whole = _read_body(self.request, head, rest)
        fault = proxy.next_fault(head.decode())
        if not whole:  # the client is gone: the server gets what had arrived
            fault = "cut"
        if fault == "stall":
            proxy.released.wait(STALL_S)
        if fault in ("reset", "stall"):
            _reset(self.request)
        elif fault in ANSWERS:
            self.request.sendall(_answer(*ANSWERS[fault], head.startswith(b"HEAD")))
        else:
            self._forward(proxy.target, head, body, fault)

    def _forward(self, port: int, head: bytes, body: bytes, fault: Fault | None) -> None:
        with socket.create_connection(("127.0.0.1", port)) as upstream:
            if fault == "cut":
                upstream.sendall(head + body[: len(body) // 2] if body else head[: len(head) // 2])
                _reset(upstream)
                _reset(self.request)
                return
            upstream.sendall(head + body)
            answer = bytearray()
            while piece := upstream.recv(1 << 16):
                answer += piece
        if fault == "lost":
            start, mark, content = bytes(answer).partition(b"\r\n\r\n")
            if content:
                self.request.sendall(start + mark + content[: len(content) // 2])
            _reset(self.request)
        else:
            self.request.sendall(answer)


def _read_head(connection: socket.socket) -> tuple[bytes, bytes]:
    """The head without its end, and what came of the body with it; empty if nothing comes."""
    data = bytearray()
    while b"\r\n\r\n" not in data:
        piece = connection.recv(1 << 16)
        if not piece:
            return b"", b""
        data += piece
    head, _, rest = bytes(data).partition(b"\r\n\r\n")
    return head, rest


def _read_body(connection: socket.socket, head: bytes, rest: bytes) -> tuple[bytes, bytes, bool]:
    """The head for the server, the body, and whether all of it came."""
    if re.search(rb"(?i)\r\nexpect: *100-continue", head):
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    body, wanted = bytearray(rest), int(length[1] if length else 0)
    with suppress(ConnectionResetError):
        while len(body) < wanted and (piece := connection.recv(1 << 16)):
            body += piece
    head = re.sub(rb"(?i)\r\n(connection|expect):[^\r]*", b"", head)
    return head + b"\r\nConnection: close\r\n\r\n", bytes(body), len(body) >= wanted


def _answer(status: str, text: str, only_head: bool) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(text)}\r\n\r\n{'' if only_head else text}".encode()


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
