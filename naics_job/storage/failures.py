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
    number = getattr(error, "errno", None)
    if is_hiccup(error):
        asked = error.__cause__ if isinstance(error, FileNotFoundError) else None
        what = f"cannot {action} {url}: {_reason(asked or error)}"
        return TransientError(what, "check the network and the storage service, then try again")
    if isinstance(error, FileNotFoundError):
        return DataError(f"cannot {action} {url}: no such file", "check the path or URL")
    if number in FULL:
        return DataError(what, "free space on that disk or choose another folder")
    if isinstance(error, PermissionError) or number in FORBIDDEN:
        return DataError(what, "check the access rights and credentials for that path")
    return DataError(what, "check that the path is right and its storage works")


def is_hiccup(error: BaseException) -> bool:
    """Tell whether a later try may succeed where `error` was raised."""
    status = getattr(error, "status", None)  # aiohttp.ClientResponseError
    if isinstance(status, int) and status > 0:
        return status in (408, 425, 429) or status >= 500
    if isinstance(error, FileNotFoundError):
        # fsspec's HTTP file system says "not found" when it could not ask at all
        return error.__cause__ is not None and is_hiccup(error.__cause__)
    if isinstance(error, ConnectionError | TimeoutError | socket.gaierror):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in HICCUPS or _from_client(error)
    return _from_client(error) and "Credentials" not in type(error).__name__


def _from_client(error: BaseException) -> bool:
    return type(error).__module__.split(".")[0] in CLIENT_PACKAGES


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return f"{text} ({type(error).__name__})" if text else type(error).__name__
