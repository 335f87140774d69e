"""Files by path or URL: the same few operations for local folders and every fsspec scheme.

A plain path is local. Local writes appear whole or not at all (temporary file in the same folder,
fsync, rename); a remote write is one object upload, which object stores make visible at its end.
No fsspec transactions: they belong to the file system object and would catch other threads' files.
"""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from naics_job.errors import ConfigError, DataError, TransientError
from naics_job.storage.failures import translated

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
CHUNK_BYTES = 1 << 20
TEMPORARY = ".tmp"  # suffix of a write that has not been renamed yet


def local_path(url: str) -> Path | None:
    """Return the local path behind a plain path or `file://` URL, None for anything remote."""
    if url.startswith("file://"):
        return Path(url.removeprefix("file://"))
    return None if "://" in url or "::" in url else Path(url)


def cache_folder(data_dir: str) -> Path:
    """Return the local folder for what is fetched: `data_dir`, or the user's cache for a URL."""
    return local_path(data_dir) or Path.home() / ".cache" / "naics-job"


def filesystem(url: str, timeout_s: float | None = None) -> tuple[AbstractFileSystem, str]:
    """Return the file system of `url` and the path inside it.

    The listing cache is off: it hides what other processes wrote. `timeout_s` limits connecting
    and each wait for data over http(s) and s3; other schemes keep their own limits.

    Raises:
        ConfigError: the scheme is unknown or its package is not installed.
    """
    options: dict[str, Any] = {}
    if local_path(url) is None:
        options["use_listings_cache"] = False
    if timeout_s is not None and url.startswith(("http://", "https://")):
        from aiohttp import ClientTimeout

        limits = ClientTimeout(total=None, sock_connect=timeout_s, sock_read=timeout_s)
        options["client_kwargs"] = {"timeout": limits}
    elif timeout_s is not None and url.startswith("s3://"):
        options["config_kwargs"] = {"connect_timeout": timeout_s, "read_timeout": timeout_s}
    try:
        fs, path = url_to_fs(url, **options)
    except (ImportError, ValueError) as error:
        hint = "use a path, file://, s3:// or https://, or install the package of that scheme"
        raise ConfigError(f"cannot use {url}: {error}", hint) from error
    return fs, str(path)


def join(base: str, *parts: str) -> str:
    """Join path parts with "/" for URLs and local paths alike."""
    for part in parts:
        base = f"{base.rstrip('/')}/{part.strip('/')}" if base.rstrip("/") else f"/{part}"
    return base


def exists(url: str) -> bool:
    """Tell whether a file or folder is there. Raises `TransientError` if that cannot be asked."""
    try:
        with translated("look for", url):
            if (path := local_path(url)) is not None:
                path.stat()
            else:
                fs, inside = filesystem(url)
                fs.info(inside)
    except DataError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return False
        raise
    return True


def size_of(url: str) -> int:
    """Return the size of a file in bytes."""
    with translated("read the size of", url):
        if (path := local_path(url)) is not None:
            return path.stat().st_size
        fs, inside = filesystem(url)
        return int(fs.info(inside)["size"])


def read_bytes(url: str) -> bytes:
    """Return the whole content of a small file."""
    with translated("read", url):
        if (path := local_path(url)) is not None:
            return path.read_bytes()
        fs, inside = filesystem(url)
        return cast(bytes, fs.cat_file(inside))


def open_read(url: str) -> BinaryIO:
    """Open a file for reading; the caller closes it."""
    with translated("open", url):
        if (path := local_path(url)) is not None:
            return path.open("rb")
        fs, inside = filesystem(url)
        return cast(BinaryIO, fs.open(inside, "rb"))


def write_bytes_atomic(url: str, data: bytes) -> None:
    """Write a small file so that a reader sees the old content or the new, nothing between."""
    with translated("write", url):
        if (path := local_path(url)) is not None:
            replace_local(path, lambda file: file.write(data))
            return
        fs, inside = filesystem(url)
        fs.pipe_file(inside, data)


def copy_into(local: Path, url: str) -> None:
    """Stream a local file to `url`; a local target is replaced in one step."""
    with translated("write", url):
        if (path := local_path(url)) is not None:
            with local.open("rb") as source:
                replace_local(path, lambda file: shutil.copyfileobj(source, file, CHUNK_BYTES))
            return
        fs, inside = filesystem(url)
        fs.put_file(str(local), inside)


def fetch(url: str, cache_dir: Path, timeout_s: float | None = None) -> Path:
    """Return a local path with the content of `url`; a local file is returned as it is.

    A remote file is downloaded once per version (the name in `cache_dir` holds a digest of the
    URL, size and entity tag) and appears in the cache only when complete.
    """
    with translated("read", url):
        if (path := local_path(url)) is not None:
            path.stat()
            return path
        fs, inside = filesystem(url, timeout_s)
        info = fs.info(inside)
        version = {k: str(v) for k, v in info.items() if not k.startswith("_")}
        key = hashlib.sha256(json.dumps([url, version], sort_keys=True).encode()).hexdigest()
        target = cache_dir / f"{key[:16]}-{inside.rstrip('/').rsplit('/', 1)[-1]}"
        if not target.exists():
            with fs.open(inside, "rb", block_size=CHUNK_BYTES) as source:
                replace_local(target, lambda file: _download(source, file, url, info.get("size")))
        return target


def _download(source: BinaryIO, file: BinaryIO, url: str, size: int | None) -> None:
    shutil.copyfileobj(source, file, CHUNK_BYTES)
    if size is not None and file.tell() != size:
        raise TransientError(f"{url} ended after {file.tell()} of {size} bytes", "try again")


def sha256_of(url: str | Path) -> str:
    """Return the sha256 of a file as 64 hex digits, reading it in chunks."""
    digest = hashlib.sha256()
    with translated("read", str(url)), open_read(str(url)) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def remove(url: str) -> None:
    """Remove a file; a missing one is no error."""
    with translated("remove", url):
        if (path := local_path(url)) is not None:
            path.unlink(missing_ok=True)
            return
        fs, inside = filesystem(url)
        if fs.exists(inside):
            fs.rm_file(inside)


def list_dir(url: str) -> list[str]:
    """Return the sorted names (not paths) in a folder; a missing folder has none."""
    with translated("list", url):
        if (path := local_path(url)) is not None:
            names = os.listdir(path) if path.is_dir() else []
        else:
            fs, inside = filesystem(url)
            try:
                paths = fs.ls(inside, detail=False)
            except FileNotFoundError:
                paths = []
            here = inside.rstrip("/")
            # object stores list a folder marker as an entry of itself
            names = [p.rstrip("/").rsplit("/", 1)[-1] for p in paths if p.rstrip("/") != here]
    return sorted(name for name in names if not name.endswith(TEMPORARY))


def make_dir(url: str) -> None:
    """Make a folder and its parents where folders exist; an existing one is no error."""
    with translated("make the folder", url):
        if (path := local_path(url)) is not None:
            path.mkdir(parents=True, exist_ok=True)
            return
        fs, inside = filesystem(url)
        fs.makedirs(inside, exist_ok=True)


def free_bytes(url: str) -> int | None:
    """Return the free bytes of the disk that holds or would hold `url`, None for remote storage."""
    path = local_path(url)
    if path is None:
        return None
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def version_of(url: str) -> str:
    """Return a token that changes when the file is rewritten, "" where the storage gives none."""
    with translated("look for", url):
        if (path := local_path(url)) is not None:
            status = path.stat()
            return f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"
        fs, inside = filesystem(url)
        info = fs.info(inside)
        marks = ("ETag", "etag", "LastModified", "mtime", "created", "generation", "VersionId")
        return "|".join(f"{mark}={info[mark]}" for mark in marks if info.get(mark))


def remove_leftovers(url: str) -> None:
    """Remove temporary files that a killed writer left in a local folder.

    Only for folders with one writer, which calls this.
    """
    path = local_path(url)
    if path is not None and path.is_dir():
        with translated("clean", url):
            for leftover in path.glob(f".*{TEMPORARY}"):
                leftover.unlink(missing_ok=True)


def replace_local(target: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Fill a temporary file next to `target`, sync it, and rename it onto `target`.

    Raises:
        OSError: as it came; callers wrap it in `translated`. `target` is as it was before.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(target) as temporary:
        with temporary.open("xb") as file:  # 0666 minus umask, unlike tempfile's 0600
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        _sync_folder(target.parent)


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


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a written artefact is, kept beside it as `<file>.manifest.json`."""

    file: str  # name of the artefact, without folder
    sha256: str
    rows: int
    schema_version: int
    source: str  # for example census | bundled
    inputs: dict[str, str]  # name of each input -> its sha256, URL or entity tag
    config_hash: str
    created_at: str  # ISO 8601, UTC
    extra: dict[str, JSON] = field(default_factory=dict)


def manifest_url(url: str) -> str:
    """Return where the manifest of the artefact `url` is."""
    return url + ".manifest.json"


def write_manifest(url: str, manifest: Manifest) -> None:
    """Write the manifest of the artefact `url`; call it after the artefact is complete."""
    text = json.dumps(asdict(manifest), indent=2, sort_keys=True, allow_nan=False)
    write_bytes_atomic(manifest_url(url), text.encode() + b"\n")


def read_manifest(url: str) -> Manifest | None:
    """Return the manifest of the artefact `url`, None when there is none.

    Raises:
        DataError: it is no JSON object with the fields of `Manifest`.
    """
    where = manifest_url(url)
    if not exists(where):
        return None
    try:
        raw = json.loads(read_bytes(where))
        manifest = Manifest(**raw)
        texts = (manifest.file, manifest.sha256, manifest.source, manifest.config_hash)
        numbers = (manifest.rows, manifest.schema_version)
        tables = (manifest.inputs, manifest.extra)
        good = all(isinstance(text, str) for text in texts)
        good = good and all(type(number) is int for number in numbers)
        if not (good and all(isinstance(table, dict) for table in tables)):
            raise TypeError("a field has the wrong type")
    except (ValueError, TypeError) as error:
        names = ", ".join(f.name for f in fields(Manifest))
        hint = f"delete it and rebuild the file with --force; expected fields: {names}"
        raise DataError(f"{where} is not a manifest: {error}", hint) from error
    return manifest


def verify_manifest(url: str) -> Manifest:
    """Return the manifest of `url` after comparing the content of `url` with it.

    Raises:
        DataError: the manifest or the file is missing, or the content differs.
    """
    manifest = read_manifest(url)
    if manifest is None:
        raise DataError(f"{url} has no manifest", "rebuild it with --force")
    if sha256_of(url) != manifest.sha256:
        raise DataError(f"{url} is damaged: its sha256 differs", "rebuild it with --force")
    return manifest
