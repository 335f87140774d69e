"""File system objects of remote URLs: one per service and purpose, shared by all threads.

Purposes are kept apart, so that whatever changes one object (credentials read anew, a pool of
connections that a long upload fills, a transaction of another package) never reaches requests of
another purpose. One object serves several threads: fsspec runs their requests on its own loop.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

from fsspec import AbstractFileSystem, get_filesystem_class
from fsspec.core import url_to_fs

from naics_job.errors import ConfigError

Purpose = Literal["data", "checkpoints", "control"]
S3_SCHEMES = ("s3://", "s3a://")
S3_CONCURRENCY = 4  # parts of 50 MB that one upload keeps in memory; s3fs alone would take 10

_purpose: ContextVar[Purpose] = ContextVar("storage_purpose", default="data")
_known: dict[str, AbstractFileSystem] = {}
_lock = threading.Lock()


@contextmanager
def serving(purpose: Purpose) -> Iterator[None]:
    """Make the requests of this thread inside the block, or of a decorated function, for `purpose`.

    data         tables, shards, weights, outputs: what is asked outside of any such block
    checkpoints  the objects of the run store
    control      what processes agree by: manifests, pointer, run lease
    """
    before = _purpose.set(purpose)
    try:
        yield
    finally:
        _purpose.reset(before)


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
    options = _options(url, timeout_s)
    try:
        if "::" in url:  # one file system inside another: fsspec keeps those
            fs, path = url_to_fs(url, **options)
            return fs, str(path)
        kind = get_filesystem_class(url.partition("://")[0])
        options |= kind._get_kwargs_from_urls(url)  # host and user, where the URL names them
        key = repr((url.partition("://")[0], _purpose.get(), timeout_s, sorted(options.items())))
        with _lock:
            if key not in _known:
                _known[key] = kind(skip_instance_cache=True, **options)
            return _known[key], str(kind._strip_protocol(url))
    except (ImportError, ValueError) as error:
        hint = "use a path, file://, s3:// or https://, or install the package of that scheme"
        raise ConfigError(f"cannot use {url}: {error}", hint) from error


def _options(url: str, timeout_s: float | None) -> dict[str, Any]:
    options: dict[str, Any] = {"use_listings_cache": False}
    if is_s3(url):
        options["max_concurrency"] = S3_CONCURRENCY
    if timeout_s is not None and url.startswith(("http://", "https://")):
        from aiohttp import ClientTimeout

        limits = ClientTimeout(total=None, sock_connect=timeout_s, sock_read=timeout_s)
        options["client_kwargs"] = {"timeout": limits}
    elif timeout_s is not None and is_s3(url):
        options["config_kwargs"] = {"connect_timeout": timeout_s, "read_timeout": timeout_s}
    return options


def forget(fs: AbstractFileSystem) -> None:
    """Let later requests look for endpoint and credentials again.

    Requests that other threads make with `fs` go on; one that was renewed meanwhile stays.
    """
    with _lock:
        for key in [key for key, known in _known.items() if known is fs]:
            del _known[key]
    type(fs).clear_instance_cache()  # of chained URLs


def forget_all() -> list[AbstractFileSystem]:
    """Forget every file system, and return them for a caller that closes their connections."""
    with _lock:
        forgotten = list(_known.values())
        _known.clear()
    return forgotten


def _after_fork() -> None:
    """A child must not use what belongs to its parent's loop, nor wait for its parent's lock."""
    global _lock  # noqa: PLW0603  (the parent's may be held by a thread that the child lacks)
    _lock = threading.Lock()
    _known.clear()


os.register_at_fork(after_in_child=_after_fork)
