"""Remote files whose sha256 is known, fetched once per node and shared by its processes.

A file lies in the cache under its sha256, so one that is there and verifies is the right one,
whoever fetched it. Two locks per file, see `locks`: the one for fetching lets one process fetch
while the others wait; the one for use is shared by those that have been given the file, and
keeps it from being removed when room is made for another.
"""

import functools
import logging
import os
import shutil
import threading
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from naics_job.config.data_schema import StreamingConfig
from naics_job.errors import DataError
from naics_job.storage import files, locks
from naics_job.storage.failures import FULL

log = logging.getLogger(__name__)

ATTEMPTS = 3  # downloads of content that is not what its sha256 says
AHEAD = 3  # files fetched at once while earlier ones are read
GB = 10**9
DIR_SETTING = "data_loader.streaming.cache_dir"
MORE_ROOM = f"free space there, or set {DIR_SETTING} to a folder on a larger disk"


@dataclass(frozen=True)
class Object:
    """A file with known content.

    Attributes:
        url: path or URL.
        sha256: 64 hex digits.
        size: bytes; None where nobody noted it.
    """

    url: str
    sha256: str
    size: int | None = None


class NodeCache:
    """A local folder of fetched files, at most `max_bytes` unless more than that is in use.

    Files that were given out stay in use until `close`, or until the cache object is gone.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self._used: dict[str, int] = {}  # sha256 -> handle of the lock for use
        self._guard = threading.Lock()
        weakref.finalize(self, _release, self._used)

    @classmethod
    def of(cls, streaming: StreamingConfig) -> Self:
        """The cache of this node as the settings have it; nothing is made before it is needed."""
        folder = streaming.cache_dir
        default = Path.home() / ".cache" / "naics-job" / "objects"
        return cls(Path(folder) if folder else default, int(streaming.cache_gb * GB))

    def get(self, wanted: Object, hint: str = "") -> Path:
        """Return a local file with the content of `wanted`, verified once by each cache object.

        A local file is returned as it is. Processes and threads that want the same remote file at
        once get it from one download.

        Args:
            wanted: what to fetch.
            hint: what to do when the file at its URL is missing or damaged.

        Raises:
            DataError: it is missing or damaged, or the disk of the cache is full or read-only.
            TransientError: the storage could not be reached for minutes.
        """
        if (path := files.local_path(wanted.url)) is not None:
            if not files.exists(wanted.url):
                raise DataError(f"{wanted.url} is missing", hint)
            if not _is_good(path, wanted):
                raise _damaged(wanted, hint)
            return path
        target = self.folder / "objects" / wanted.sha256
        with self._guard:
            if wanted.sha256 in self._used and target.exists():
                return target
        with self._told():
            for name in ("objects", "locks", "fetching"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            handle = self._shared(wanted)
        try:
            if not self._is_there(target, wanted):
                with self._told(), self._alone(f"{wanted.sha256}.fetch"):
                    if not self._is_there(target, wanted):
                        self._fetch(wanted, target, hint)
            os.utime(target)  # when it was used last
        except BaseException:
            _unlock(handle)
            raise
        with self._guard:
            _unlock(self._used.pop(wanted.sha256, None))
            if handle is not None:
                self._used[wanted.sha256] = handle
        return target

    def close(self) -> None:
        """Let files that were given out be removed when room is needed."""
        _release(self._used)

    @functools.cached_property
    def _locking(self) -> bool:
        supported = locks.are_supported(self._lock("probe"))
        if not supported:
            reason = "its file system has no locks: every process fetches, nothing is removed"
            _tell(logging.WARNING, "cache.no_locks", folder=str(self.folder), reason=reason)
        return supported

    def _lock(self, name: str) -> Path:
        return self.folder / "locks" / name

    def _shared(self, wanted: Object) -> int | None:
        if not self._locking:
            return None
        return locks.acquire(self._lock(f"{wanted.sha256}.use"), shared=True)

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        if not self._locking:
            yield
            return
        with locks.exclusive(self._lock(name)):
            yield

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Name the setting in what goes wrong with the cache folder itself."""
        try:
            yield
        except OSError as error:
            text = f"cannot use the cache folder {self.folder}: {error.strerror or error}"
            full = error.errno in FULL
            other = f"set {DIR_SETTING} to a local folder that can be written"
            raise DataError(text, MORE_ROOM if full else other) from error
        except DataError as error:
            if getattr(error.__cause__, "errno", None) in FULL:
                raise DataError(str(error.args[0]), MORE_ROOM) from error
            raise

    def _is_there(self, target: Path, wanted: Object) -> bool:
        if not target.exists():
            return False
        good = _is_good(target, wanted)
        if not good:
            _tell(logging.WARNING, "cache.damaged", url=wanted.url, file=str(target))
        return good

    def _fetch(self, wanted: Object, target: Path, hint: str) -> None:
        """Download into a folder of our own, verify, rename."""
        own = "" if self._locking else f"-{os.getpid()}-{threading.get_ident()}"
        scratch = self.folder / "fetching" / f"{wanted.sha256}{own}"
        for attempt in range(1, ATTEMPTS + 1):
            shutil.rmtree(scratch, ignore_errors=True)
            try:
                size = files.size_of(wanted.url) if wanted.size is None else wanted.size
                self._make_room(size)
                fetched = files.fetch(wanted.url, scratch)
                if _is_good(fetched, wanted):
                    os.replace(fetched, target)
                    self._make_room(0)
                    _tell(logging.INFO, "cache.fetched", url=wanted.url, bytes=size)
                    return
            except DataError as error:
                if isinstance(error.__cause__, FileNotFoundError):
                    raise DataError(f"{wanted.url} is missing", hint) from error
                raise
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
            _tell(logging.WARNING, "cache.bad_download", url=wanted.url, attempt=attempt)
        raise _damaged(wanted, hint)

    def _make_room(self, incoming: int) -> None:
        """Remove files that nobody uses, those used longest ago first, until `incoming` fits.

        Raises:
            DataError: the disk is too full for `incoming` bytes even so.
        """
        if self._locking:
            with self._alone("room"):
                self._remove_orphans()
                total = self._evict_for(incoming)
            if total + incoming > self.max_bytes:
                sizes = {"bytes": total + incoming, "limit_bytes": self.max_bytes}
                _tell(logging.WARNING, "cache.over_limit", **sizes)
        free = files.free_bytes(str(self.folder))
        if free is not None and free < incoming:
            have = f"{free / GB:.3f} GB are free, {incoming / GB:.3f} GB are needed"
            raise DataError(
                f"the disk of the cache folder {self.folder} is full: {have}", MORE_ROOM
            )

    def _evict_for(self, incoming: int) -> int:
        """Return how many bytes stay."""
        found = []
        for path in (self.folder / "objects").iterdir():
            status = path.stat()
            found.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            free = files.free_bytes(str(self.folder))
            if total + incoming <= self.max_bytes and (free is None or free >= incoming):
                break
            handle = locks.acquire(self._lock(f"{path.name}.use"), wait=False)
            if handle is None:
                continue
            path.unlink()
            # Only who has the lock for use ever takes the one for fetching, so both may go.
            self._lock(f"{path.name}.fetch").unlink(missing_ok=True)
            self._lock(f"{path.name}.use").unlink()
            os.close(handle)
            total -= size
            _tell(logging.INFO, "cache.removed", file=path.name, bytes=size)
        return total

    def _remove_orphans(self) -> None:
        """Remove what killed processes had begun to fetch."""
        for scratch in (self.folder / "fetching").iterdir():
            handle = locks.acquire(self._lock(f"{scratch.name}.fetch"), wait=False)
            if handle is not None:
                shutil.rmtree(scratch, ignore_errors=True)
                os.close(handle)


def fetch_ahead(cache: NodeCache, wanted: Sequence[Object], hint: str = "") -> Iterator[Path]:
    """Yield a local file for each object in order, fetching `AHEAD` at once in the background."""
    with ThreadPoolExecutor(AHEAD, thread_name_prefix="fetch-ahead") as pool:
        yield from pool.map(lambda each: cache.get(each, hint), wanted)


def _tell(level: int, name: str, **fields: object) -> None:
    log.log(level, name, extra={"fields": fields})


def _is_good(path: Path, wanted: Object) -> bool:
    if wanted.size is not None and files.size_of(str(path)) != wanted.size:
        return False
    return files.sha256_of(path) == wanted.sha256


def _damaged(wanted: Object, hint: str) -> DataError:
    text = f"{wanted.url} is damaged: its sha256 is not the one of its manifest"
    return DataError(text, hint or "delete it, it is made again")


def _release(used: dict[str, int]) -> None:
    while used:
        _unlock(used.popitem()[1])


def _unlock(handle: int | None) -> None:
    if handle is not None:
        with suppress(OSError):
            os.close(handle)
