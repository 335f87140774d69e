"""Requests to remote storage: the file system of a URL, and how long a request is repeated.

Endpoint, credentials and addressing of s3:// come from where botocore looks for them: the
environment (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE, web
identity), then ~/.aws. Nothing of them is a setting, so nothing of them is in a saved file.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from fsspec import AbstractFileSystem, get_filesystem_class
from fsspec.core import url_to_fs

from naics_job.errors import ConfigError, TransientError
from naics_job.storage.failures import is_expired, translated
from naics_job.storage.retry import with_retries

T = TypeVar("T")
S3_SCHEMES = ("s3://", "s3a://")
S3_CONCURRENCY = 4  # parts of 50 MB that one upload keeps in memory; s3fs alone would take 10


@dataclass(frozen=True)
class Patience:
    """How often a request is made, and the longest pauses between, seconds."""

    attempts: int
    base_s: float
    cap_s: float


# The pauses add up to 2.3 minutes on average, beside what the client of a service tries itself.
PATIENCE = Patience(attempts=15, base_s=0.5, cap_s=30.0)


def is_s3(url: str) -> bool:
    """Tell whether `url` is in an S3 bucket."""
    return url.startswith(S3_SCHEMES)


def filesystem(url: str, timeout_s: float | None = None) -> tuple[AbstractFileSystem, str]:
    """Return the file system of the remote `url` and the path inside it.

    The listing cache is off: it hides what other processes wrote. `timeout_s` limits connecting
    and each wait for data over http(s) and s3; other schemes keep their own limits.

    Raises:
        ConfigError: the scheme is unknown or its package is not installed.
    """
    options: dict[str, Any] = {"use_listings_cache": False}
    if is_s3(url):
        options["max_concurrency"] = S3_CONCURRENCY
    if timeout_s is not None and url.startswith(("http://", "https://")):
        from aiohttp import ClientTimeout

        limits = ClientTimeout(total=None, sock_connect=timeout_s, sock_read=timeout_s)
        options["client_kwargs"] = {"timeout": limits}
    elif timeout_s is not None and is_s3(url):
        options["config_kwargs"] = {"connect_timeout": timeout_s, "read_timeout": timeout_s}
    try:
        fs, path = url_to_fs(url, **options)
    except (ImportError, ValueError) as error:
        hint = "use a path, file://, s3:// or https://, or install the package of that scheme"
        raise ConfigError(f"cannot use {url}: {error}", hint) from error
    return fs, str(path)


def insist(
    action: str,
    url: str,
    request: Callable[[AbstractFileSystem, str], T],
    *,
    timeout_s: float | None = None,
) -> T:
    """Return what `request(file system, path inside it)` returns, repeating it as `PATIENCE` says.

    Args:
        action: what is done, for messages: "read", "write".
        url: remote.
        request: must be safe to repeat; it may have been done though its answer never came.
        timeout_s: see `filesystem`. Who gives it bounds the waiting, and so nothing is repeated.

    Raises:
        ConfigError: the URL or the endpoint cannot be.
        DataError: a later try would not mend it.
        TransientError: the last try failed too.
    """

    def once() -> T:
        try:
            with translated(action, url):
                fs, inside = filesystem(url, timeout_s)
                return request(fs, inside)
        except ValueError as error:
            if not is_s3(url):
                raise
            hint = (
                "check the bucket name, and that AWS_ENDPOINT_URL begins with http:// or https://"
            )
            raise ConfigError(f"cannot {action} {url}: {error}", hint) from error
        except TransientError as error:
            if is_expired(error.__cause__):
                forget_sessions(url)
            raise

    patience = PATIENCE
    return with_retries(
        once,
        attempts=1 if timeout_s is not None else patience.attempts,
        base_s=patience.base_s,
        cap_s=patience.cap_s,
        rng=random.Random(),
    )


def forget_sessions(url: str) -> None:
    """Let the next request for the scheme of `url` look for endpoint and credentials again."""
    scheme = url.rpartition("::")[2].partition("://")[0]
    get_filesystem_class(scheme).clear_instance_cache()
