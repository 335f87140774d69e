"""How long a request to remote storage is repeated, and what becomes of it when it fails.

Endpoint, credentials and addressing of s3:// come from where botocore looks for them: the
environment (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE, web
identity), then ~/.aws. Nothing of them is a setting, so nothing of them is in a saved file.
"""

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TypeVar

from fsspec import AbstractFileSystem

from naics_job.errors import ConfigError, TransientError
from naics_job.storage.failures import is_expired, translated
from naics_job.storage.retry import with_retries
from naics_job.storage.sessions import filesystem, forget, is_s3

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """How long a request is repeated, and the longest pauses between, seconds."""

    attempts: int
    base_s: float
    cap_s: float
    budget_s: float = math.inf  # from the first attempt; the last one comes when it is used up


# Until settings are read, which replace `budget_s`. What the client of a service tries itself, 7 s
# where nobody answers, comes on top.
PATIENCE = Patience(attempts=1_000_000, base_s=0.5, cap_s=15.0, budget_s=60.0)

ONCE = Patience(attempts=1, base_s=0.0, cap_s=0.0)
_impatient: ContextVar[bool] = ContextVar("storage_impatient", default=False)


def be_patient(minutes: float) -> None:
    """Repeat requests of this process for so long from now on: setting `storage.retry_minutes`."""
    global PATIENCE  # noqa: PLW0603  (process-wide, as every thread asks the same storage)
    PATIENCE = replace(PATIENCE, budget_s=minutes * 60.0)


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

    patience = ONCE if timeout_s is not None or _impatient.get() else PATIENCE
    return with_retries(
        once,
        attempts=patience.attempts,
        base_s=patience.base_s,
        cap_s=patience.cap_s,
        budget_s=patience.budget_s,
        rng=random.Random(),
    )
