"""What a remote store can do and what its credentials may do, asked once before a run starts.

So a missing bucket, a refused right, a wrong region or clock ends a run in its first seconds, not
at its first save.
"""

import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from fsspec import AbstractFileSystem

from naics_job.errors import DataError, NaicsJobError
from naics_job.storage import files
from naics_job.storage.failures import NOT_IMPLEMENTED, PRECONDITION_FAILED, answer_of
from naics_job.storage.remote import impatient, insist
from naics_job.storage.sessions import is_s3, serving

log = logging.getLogger(__name__)
T = TypeVar("T")
REFUSED = ("AccessDenied", "AllAccessDisabled", "403", "")  # others say what is wrong with the key
DEGRADED = {
    "effect": "of two runs that start in one moment, one may end only at its first save",
    "advice": "start one run of an experiment at a time, or use a store that knows If-None-Match",
}


@dataclass(frozen=True)
class Capabilities:
    """What a store was seen to do."""

    conditional_create: bool  # of two writers that create one file, the second is refused


@serving("control")
def probe(url: str) -> Capabilities:
    """Try every kind of request that a run makes on the remote folder `url`; leaves nothing there.

    Raises:
        ConfigError: the URL or the endpoint cannot be.
        DataError: a request is refused; the hint names the right or setting that is missing.
        TransientError: the store cannot be reached, or credentials have expired and stay so.
    """
    nonce = secrets.token_hex(8)
    target, content = files.join(url, f".probe-{nonce}"), nonce.encode()
    try:
        _step("s3:ListBucket", url, lambda: files.list_dir(url))
        _step("s3:PutObject", url, lambda: files.create_bytes(target, content))
        second = _step("s3:PutObject", url, lambda: insist("create", target, _create_again))
        found = _step("s3:GetObject", url, lambda: files.read_bytes(target))
        _step("s3:DeleteObject", url, lambda: files.remove(target))
    except NaicsJobError:
        with suppress(NaicsJobError), impatient():
            files.remove(target)
        raise
    able = Capabilities(conditional_create=not second and found == content)
    fields = {"url": url, "conditional_create": able.conditional_create}
    log.info("storage.probed", extra={"fields": fields})
    if not able.conditional_create:
        log.warning("storage.no_conditional_create", extra={"fields": {"url": url, **DEGRADED}})
    return able


def _create_again(fs: AbstractFileSystem, inside: str) -> bool:
    """Create what is there with other content, and tell whether the store let that happen."""
    try:
        fs.pipe_file(inside, b"second", mode="create")
    except OSError as error:
        status, _ = answer_of(error)
        if isinstance(error, FileExistsError) or status == PRECONDITION_FAILED:
            return False
        if status == NOT_IMPLEMENTED:
            return True
        raise
    return True


def _step(right: str, url: str, request: Callable[[], T]) -> T:
    try:
        return request()
    except DataError as error:
        cause = error.__cause__
        refused = isinstance(cause, PermissionError) and answer_of(cause)[1] in REFUSED
        if not (refused and is_s3(url)):
            raise
        hint = f"grant {right} on {url} to the credentials in use, or use others"
        raise DataError(str(error.args[0]), hint) from error
