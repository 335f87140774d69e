"""Requests to the API server: plain JSON in and out, a timeout on each, troubles told apart."""

import json
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlencode

import urllib3
from kubernetes.client import ApiClient
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import MaxRetryError

from naics_job.errors import TransientError
from naics_job.kube.failures import UnauthorizedError, failure_of
from naics_job.kube.paths import Json
from naics_job.observability.logs import event
from naics_job.storage.retry import Patience, with_retries

log = logging.getLogger(__name__)
Query = Mapping[str, str]
T = TypeVar("T")

MERGE = "application/merge-patch+json"
AWAY = "check the network and the server of the kubeconfig; the run itself goes on without us"


@dataclass(frozen=True)
class Timing:
    """How long to wait for the API server, seconds.

    A watch is short on purpose: a connection that died without a word shows at its end.
    """

    connect_s: float = 10.0
    read_s: float = 30.0
    watch_s: int = 15
    watch_slack_s: float = 5.0
    patience: Patience = field(
        default=Patience(attempts=1_000_000, base_s=0.5, cap_s=10.0, budget_s=180.0)
    )


@dataclass(frozen=True)
class Answer:
    """The body of an answer, and what the server warns of."""

    body: Json
    warnings: tuple[str, ...]


class Cluster:
    """One API server, and the namespace commands are about.

    Credentials are read again when the server no longer takes them: tokens rotate while a run is
    followed. Trouble that may pass is met with retries, each of which is logged.
    """

    def __init__(
        self, connect: Callable[[], ApiClient], namespace: str, timing: Timing | None = None
    ) -> None:
        """Use the clients that `connect` makes from what it finds now."""
        self._connect = connect
        self._client = connect()
        self._accepted = False  # our credentials, at least once
        self.namespace = namespace
        self.timing = timing or Timing()

    def get(self, path: str, **query: str) -> Json:
        """The object or list at `path`."""
        return self.send("GET", path, query).body

    def send(
        self, method: str, path: str, query: Query | None = None, body: Any = None, kind: str = ""
    ) -> Answer:
        """Send one request, again when the trouble may pass.

        A repeated POST may find its own object: callers take `ConflictError` for that.

        Args:
            method: HTTP verb.
            path: from the root of the server; names in it come through `path_of`.
            query: parameters.
            body: plain JSON.
            kind: content type of `body`, `MERGE` for a patch.

        Raises:
            ApiError: the server refuses.
            TransientError: it could not be reached for the patience of `timing`.
        """
        return self.patiently(lambda: self._once(method, path, query or {}, body, kind))

    def ask(self, path: str, **query: str) -> Json:
        """`get` without its retries."""
        return self._once("GET", path, query, None, "").body

    def patiently(self, action: Callable[[], T], sleep: Callable[[float], None] = time.sleep) -> T:
        """Run `action` with the retries of `timing`: fewer of them before the first answer ever."""
        patience = self.timing.patience
        budget_s = patience.budget_s if self._accepted else patience.budget_s / 3
        return with_retries(
            action,
            attempts=patience.attempts,
            base_s=patience.base_s,
            cap_s=patience.cap_s,
            budget_s=budget_s,
            rng=random.Random(),
            sleep=sleep,
            name="kube.retry",
        )

    def lines(self, path: str, query: Query, read_s: float) -> Iterator[bytes]:
        """The lines of an answer as they come, without their ends; not repeated on trouble.

        What follows the last line end is given only when the answer ended as it should.

        Raises:
            TransientError: the connection broke.
        """
        response = self._open("GET", path, query, None, "", read_s)
        rest = b""
        try:
            for chunk in response.stream(2**16, decode_content=True):
                *whole, rest = (rest + chunk).split(b"\n")
                yield from whole
            if rest:
                yield rest
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _broken(f"GET {path}", error) from error
        finally:
            response.close()

    def _once(self, method: str, path: str, query: Query, body: Any, kind: str) -> Answer:
        response = self._open(method, path, query, body, kind, self.timing.read_s)
        try:
            data = response.read(decode_content=True)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _broken(f"{method} {path}", error) from error
        finally:
            response.release_conn()
        try:
            parsed = json.loads(data) if data else {}
        except ValueError as error:  # a proxy's page
            raise TransientError(f"{method} {path}: the answer is no JSON", AWAY) from error
        return Answer(parsed, _warnings(response.headers.getlist("Warning")))

    def _open(
        self, method: str, path: str, query: Query, body: Any, kind: str, read_s: float
    ) -> urllib3.HTTPResponse:
        """The response to a request whose status is good; credentials are read again once."""
        for last in (False, True):
            response = self._request(method, path, query, body, kind, read_s)
            if 200 <= response.status <= 299:
                self._accepted = True
                return response
            failure = failure_of(response.status, response.read(), f"{method} {path}")
            response.release_conn()
            if not isinstance(failure, UnauthorizedError):
                raise failure
            if last and self._accepted:  # what renews them may be late
                raise TransientError(str(failure.args[0]), failure.hint)
            if last:
                raise failure
            event(log, logging.WARNING, "kube.credentials", action="read again", path=path)
            self._client = self._connect()
        raise AssertionError("the loop returns or raises")

    def _request(
        self, method: str, path: str, query: Query, body: Any, kind: str, read_s: float
    ) -> urllib3.HTTPResponse:
        headers = {"Accept": "application/json, */*"}
        if body is not None:
            headers["Content-Type"] = kind or "application/json"
        request = self._client.param_serialize(
            method, path, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        verb, url, sent, content, _ = request
        url += f"?{urlencode(query)}" if query else ""
        try:
            answer = self._client.call_api(
                verb, url, sent, content, _request_timeout=(self.timing.connect_s, read_s)
            )
        except (urllib3.exceptions.HTTPError, OSError, ApiException) as error:
            raise _broken(f"{method} {path}", error) from error
        response: urllib3.HTTPResponse = answer.response
        return response


def _broken(what: str, error: Exception) -> TransientError:
    cause = error.reason if isinstance(error, ApiException | MaxRetryError) else error
    reason = str(cause) or type(error).__name__
    return TransientError(f"{what}: the API server cannot be reached: {reason}", AWAY)


def _warnings(headers: Sequence[str]) -> tuple[str, ...]:
    """The texts of `299 - "text"` headers."""
    texts = [header.split('"', 1)[-1].rsplit('"', 1)[0] for header in headers]
    return tuple(text.replace('\\"', '"') for text in texts)
