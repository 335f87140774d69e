"""Write a local file so that it appears whole or not at all, and stays after a power cut."""

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)  # of some mounted disks
TEMPORARY = ".tmp"  # suffix of a write that has not been renamed yet


def replace_local(target: Path, fill: Callable[[BinaryIO], object], *, sync: bool = True) -> None:
    """Fill a temporary file next to `target`, sync it, and rename it onto `target`.

    Without `sync` it is whole after a killed process, but perhaps not after a power cut.

    Raises:
        OSError: as it came; callers wrap it in `translated`. `target` is as it was before.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(target) as temporary:
        _write_new(temporary, fill, sync)
        os.replace(temporary, target)
        if sync:
            _sync_folder(target.parent)


def create_local(target: Path, data: bytes) -> None:
    """Write `data` to `target` whole, unless that name is taken: then nothing is changed.

    Of several writers at once, on several machines of a shared disk too, one wins.

    Raises:
        FileExistsError: `target` is there.
        OSError: as it came.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(target) as temporary:
        _write_new(temporary, lambda file: file.write(data))
        try:
            os.link(temporary, target)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            # exclusive too, but a kill may leave it cut
            _write_new(target, lambda file: file.write(data))
        _sync_folder(target.parent)


def _write_new(path: Path, fill: Callable[[BinaryIO], object], sync: bool = True) -> None:
    """Make and fill the file `path`, which must not be there."""
    with path.open("xb") as file:  # 0666 minus umask, unlike tempfile's 0600
        fill(file)
        file.flush()
        if sync:
            os.fsync(file.fileno())


@contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; file systems that cannot sync a folder are left alone."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        return
    finally:
        os.close(handle)
