"""What the API server answers when it refuses, as our errors: what is wrong and what to do.

ApiError 78          refused for good: permission, a kind it does not know, an invalid object
|- NotFoundError     no such object, or no such kind
|- ConflictError     the object exists, or has changed meanwhile
|- ExpiredError      410: what is asked from is too old, list again
'- UnauthorizedError 401: the credentials are not taken, or no longer
TransientError 75    overload, a connection that broke, a server that is away
"""

import json

from naics_job.errors import ConfigError, NaicsJobError, TransientError

LOGIN = "log in again (for example with your cloud's command), or check the user of the kubeconfig"
BUSY = (408, 425, 429)  # answers that mean "later"; every 5xx does, too


class ApiError(ConfigError):
    """The API server refuses a request, and will go on refusing it."""


class NotFoundError(ApiError):
    """There is no such object, or no such kind of object."""


class ConflictError(ApiError):
    """The object exists already, or has changed meanwhile."""


class ExpiredError(ApiError):
    """The server no longer knows the version that is asked from."""


class UnauthorizedError(ApiError):
    """The server does not take the credentials."""


HINTS = {
    400: "mend the field that the message names",
    401: LOGIN,
    403: "have that verb granted by a Role in this namespace, or use another --context",
    413: "make the ConfigMap smaller: at most 1 MiB in all, and 3 MiB in one request",
    422: "mend the field that the message names",
}
CLASSES = {401: UnauthorizedError, 404: NotFoundError, 409: ConflictError, 410: ExpiredError}


def failure_of(status: int, body: bytes, what: str) -> NaicsJobError:
    """The error that an answer other than 2xx means; `what` names the request."""
    message = _said(body)
    text = f"{what}: {message or 'no reason given'} (HTTP {status})"
    if status in BUSY or status >= 500:
        return TransientError(text, "try again; the run itself does not depend on this command")
    return CLASSES.get(status, ApiError)(text, _hint(status, message))


def _said(body: bytes) -> str:
    """Message of a Status object; of anything else its first line."""
    try:
        return str(json.loads(body).get("message") or "")
    except (ValueError, AttributeError):
        return body[:300].decode(errors="replace").partition("\n")[0]


def _hint(status: int, message: str) -> str:
    if status == 403 and "quota" in message:
        return "ask for less, free what other runs hold, or have the namespace's quota raised"
    if status == 403 and "PodSecurity" in message:
        return "the namespace enforces a stricter Pod Security profile than the manifest keeps"
    return HINTS.get(status, "")
