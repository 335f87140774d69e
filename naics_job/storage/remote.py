"""How long a request to remote storage is repeated, and what becomes of it when it fails.

Endpoint, credentials and addressing of s3:// come from where botocore looks for them: the
environment (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE, web
identity), then ~/.aws. Nothing of them is a setting, so nothing of them is in a saved file.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from fsspec import AbstractFileSystem

from naics_job.errors import ConfigError, TransientError
from naics_job.storage import retry
from naics_job.storage.failures import is_expired, translated
from naics_job.storage.retry import ONCE, with_retries
from naics_job.storage.sessions import filesystem, forget, is_s3

T = TypeVar("T")


_impatient: ContextVar[bool] = ContextVar("storage_impatient", default=False)


@contextmanager
def impatient() -> Iterator[None]:
    """Make requests of this thread inside the block once, for a caller that tries again itself."""
    before = _impatient.set(True)
    try:
        yield
    finally:
        _impatient.reset(before)


def insist(
    action: str,
    url: str,
    request: Callable[[AbstractFileSystem, str], T],
    *,
    timeout_s: float | None = None,
) -> T:
    """Return what `request(file system, path inside it)` returns, repeated as `PATIENCE` says.

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
        fs = None
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
        except RecursionError as error:  # botocore asks for the region, is redirected, asks for it
            hint = "set AWS_ENDPOINT_URL to the address that serves S3 itself, such as https://..."
            text = f"cannot {action} {url}: the service redirected every request"
            raise ConfigError(text, hint) from error
        except TransientError as error:
            if fs is not None and is_expired(error.__cause__):
                forget(fs)
            raise

    patience = ONCE if timeout_s is not None or _impatient.get() else retry.PATIENCE
    return with_retries(
        once,
        attempts=patience.attempts,
        base_s=patience.base_s,
        cap_s=patience.cap_s,
        budget_s=patience.budget_s,
        rng=random.Random(),
    )
