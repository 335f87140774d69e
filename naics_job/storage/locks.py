"""Locks between the processes and threads of one node, on files of a local folder.

The kernel lets go of a lock when the process that holds it ends, however it ends: nothing has to be
cleaned up after a kill, and nobody waits for a dead process.
"""

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def acquire(path: Path, *, shared: bool = False, wait: bool = True) -> int | None:
    """Lock the file `path`, made when missing; return the handle whose `os.close` unlocks it.

    Whoever holds the exclusive lock may remove the file.

    Args:
        path: in a folder that is there.
        shared: many may hold it at once, but nobody beside an exclusive one.
        wait: else None is returned where the lock is taken.

    Raises:
        OSError: as it came; one of `UNSUPPORTED` where the file system has no locks.
    """
    kind = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, kind)
            if _is_still_there(handle, path):
                return handle
        except BlockingIOError:
            os.close(handle)
            return None
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # removed while we waited: the name may belong to another file now


def _is_still_there(handle: int, path: Path) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    own = os.fstat(handle)
    return (own.st_dev, own.st_ino) == (found.st_dev, found.st_ino)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the exclusive lock of `path` for the length of the body, waiting for it."""
    handle = acquire(path)
    assert handle is not None
    try:
        yield
    finally:
        os.close(handle)


def are_supported(path: Path) -> bool:
    """Tell whether the file `path`, made when missing, can be locked; waits for who holds it."""
    try:
        with exclusive(path):
            return True
    except OSError as error:
        if error.errno in UNSUPPORTED:
            return False
        raise


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """As `exclusive`, but where there are no locks say so and go on; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if are_supported(path):
        with exclusive(path):
            yield
    else:
        fields = {"file": str(path), "effect": "every process fetches for itself"}
        log.warning("storage.no_locks", extra={"fields": fields})
        yield
