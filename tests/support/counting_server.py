"""An HTTP server on the loopback that counts requests and can give damaged answers, for tests."""

import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class CountingServer:
    """Serves `content` by path; use it with `with`.

    Attributes:
        content: path without "/" -> body.
        gets: path -> bodies asked for.
        delay_s: pause before each body, so that others come meanwhile.
        damaged: path -> how many more answers have a flipped byte.
        cut: path -> how many more answers end half way.
    """

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.gets: Counter[str] = Counter()
        self.damaged: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()
        self.delay_s = 0.0
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.owner = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:
        return

    def _answer(self, body: bool) -> None:
        owner: CountingServer = self.server.owner  # type: ignore[attr-defined]
        name = self.path.lstrip("/")
        content = owner.content.get(name)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", '"1"')
        self.end_headers()
        if body:
            self.wfile.write(self._body(owner, name, content))

    def _body(self, owner: CountingServer, name: str, content: bytes) -> bytes:
        with owner.lock:
            owner.gets[name] += 1
            damaged, cut = owner.damaged[name] > 0, owner.cut[name] > 0
            owner.damaged[name] -= damaged
            owner.cut[name] -= cut
        time.sleep(owner.delay_s)
        if damaged:
            return content[:-1] + bytes([content[-1] ^ 1])
        return content[: len(content) // 2] if cut else content
