"""Turn what file systems raise into the error tree: missing, full, forbidden, or a hiccup."""

import errno
import socket

from naics_job.errors import DataError, NaicsJobError, TransientError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
HICCUPS = (
    errno.ECONNRESET,
    errno.ECONNREFUSED,
    errno.ECONNABORTED,
    errno.EPIPE,
    errno.ETIMEDOUT,
    errno.ENETUNREACH,
    errno.ENETDOWN,
    errno.EHOSTUNREACH,
    errno.EHOSTDOWN,
    errno.EAGAIN,
    errno.EBUSY,
    errno.ESTALE,
)
CLIENT_PACKAGES = ("aiohttp", "aiobotocore", "botocore", "urllib3")
# Classes of these packages, by name as importing them takes a second, that a later try may mend.
# Others, such as a profile or a bucket name that cannot be, stay as they are.
CLIENT_HICCUPS = {
    *("ClientError", "ConnectionError", "HTTPClientError", "HTTPError", "IncompleteReadError"),
    *("ResponseParserError", "CredentialRetrievalError", "MetadataRetrievalError"),
}
TOKENS = ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired")
# Answers to HEAD have no body: of a token that expired, botocore only sees the status 400.
EXPIRED = (*TOKENS, "400")
# Answers of S3 that a later try may mend although their HTTP status says otherwise.
MENDABLE = (
    *EXPIRED,
    *("BadDigest", "IncompleteBody", "RequestTimeout", "XAmzContentSHA256Mismatch", "SlowDown"),
    *("OperationAborted", "ConditionalRequestConflict", "Throttling", "ThrottlingException"),
    "NoSuchUpload",  # it was completed, and the answer to that lost: the upload begins anew
)
CREDENTIALS = "check the credentials: AWS_ACCESS_KEY_ID and its secret, AWS_PROFILE, or the role"
RENEW = "renew the credentials: the token of the session, of the profile, or of the pod has expired"
REGION = "set AWS_DEFAULT_REGION to the region of the bucket"
HINTS = {
    "NoSuchBucket": "check the name and AWS_ENDPOINT_URL, or create the bucket",
    "RequestTimeTooSkewed": "set the clock of this machine right",
    "InvalidAccessKeyId": CREDENTIALS,
    "SignatureDoesNotMatch": CREDENTIALS,
    "PermanentRedirect": REGION,
    "301": REGION,
    "AuthorizationHeaderMalformed": REGION,
}
NOT_IMPLEMENTED = 501
PRECONDITION_FAILED = 412


class TakenError(DataError):
    """A file that was to be created is there with other content."""


class translated:  # noqa: N801  (used as `with translated("read", url):`)
    """Raise `DataError` or `TransientError` for a failed file operation `action` on `url`.

    A folder in place of a file, a missing file, a full disk and a refused access are permanent
    (`DataError`); broken connections, time-outs and answers of an overloaded server are not.
    Errors of naics-job pass through. So does every exception that is no storage error.
    """

    def __init__(self, action: str, url: str) -> None:
        self.action, self.url = action, url

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        if isinstance(error, Exception) and (isinstance(error, OSError) or _from_client(error)):
            raise _storage_error(self.action, self.url, error) from error


def _storage_error(action: str, url: str, error: Exception) -> NaicsJobError:
    what = f"cannot {action} {url}: {_reason(error)}"
    if is_hiccup(error):
        asked = error.__cause__ if isinstance(error, FileNotFoundError) else None
        what = f"cannot {action} {url}: {_reason(asked or error)}"
        network = "check the network and the storage service, then try again"
        return TransientError(what, RENEW if answer_of(error)[1] in TOKENS else network)
    if lacks_bucket(error):
        what = f"cannot {action} {url}: the bucket does not exist"
    elif isinstance(error, FileNotFoundError):
        what = f"cannot {action} {url}: no such file"
    return DataError(what, _hint(error))


def _hint(error: Exception) -> str:
    number, name, code = getattr(error, "errno", None), type(error).__name__, answer_of(error)[1]
    if code in HINTS:
        return HINTS[code]
    if isinstance(error, FileNotFoundError):
        return "check the path or URL"
    if number in FULL:
        return "free space on that disk or choose another folder"
    refused = isinstance(error, PermissionError) or number in FORBIDDEN
    if refused or any(word in name for word in ("Credentials", "Profile", "Token")):
        return "check the access rights and credentials for that path"
    return "check that the path is right and its storage works"


def is_hiccup(error: BaseException) -> bool:
    """Tell whether a later try may succeed where `error` was raised."""
    status = getattr(error, "status", None)  # aiohttp.ClientResponseError
    code = ""
    if not isinstance(status, int):
        status, code = answer_of(error)
    if status > 0 or code:
        later = status in (408, 425, 429) or status >= 500
        return code in MENDABLE or (later and status != NOT_IMPLEMENTED)
    if isinstance(error, FileNotFoundError):
        # fsspec's HTTP file system says "not found" when it could not ask at all
        return error.__cause__ is not None and is_hiccup(error.__cause__)
    if isinstance(error, ConnectionError | TimeoutError | socket.gaierror):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in HICCUPS or _is_client_hiccup(error)
    return _is_client_hiccup(error)


def is_expired(error: BaseException | None) -> bool:
    """Tell whether `error` is the answer to credentials that were good before."""
    return error is not None and answer_of(error)[1] in EXPIRED


def lacks_bucket(error: BaseException | None) -> bool:
    """Tell whether `error` says that there is no such bucket at all."""
    return error is not None and answer_of(error)[1] == "NoSuchBucket"


def answer_of(error: BaseException) -> tuple[int, str]:
    """Return HTTP status and code of the S3 answer that `error` is or comes from, else 0 and ""."""
    for each in (error, error.__cause__):
        response = getattr(each, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return int(status), str(response.get("Error", {}).get("Code", ""))
    return 0, ""


def _is_client_hiccup(error: BaseException) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    return _from_client(error) and bool(names & CLIENT_HICCUPS) and "InvalidURL" not in names


def _from_client(error: BaseException) -> bool:
    return type(error).__module__.split(".")[0] in CLIENT_PACKAGES


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return f"{text} ({type(error).__name__})" if text else type(error).__name__
