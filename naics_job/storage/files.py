"""Files by path or URL: the same few operations for local folders and every fsspec scheme.

A plain path is local. Local writes appear whole or not at all (temporary file in the same folder,
fsync, rename); a remote write is one object upload, which object stores make visible at its end.
No fsspec transactions: they belong to the file system object and would catch other threads' files.
Remote requests are repeated for minutes when they meet trouble that may pass: see `remote.insist`.
"""

import hashlib
import io
import json
import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

from fsspec import AbstractFileSystem

from naics_job.errors import DataError, TransientError
from naics_job.storage.failures import (
    NOT_IMPLEMENTED,
    PRECONDITION_FAILED,
    TakenError,
    answer_of,
    is_hiccup,
    lacks_bucket,
    translated,
)
from naics_job.storage.local import TEMPORARY, create_local, replace_local
from naics_job.storage.remote import insist
from naics_job.storage.sessions import is_s3

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
CHUNK_BYTES = 1 << 20
BLOCK_BYTES = 8 << 20  # asked of a remote file at once
TAKEN = "another process writes there too; stop one of them"


def local_path(url: str) -> Path | None:
    """Return the local path behind a plain path or `file://` URL, None for anything remote."""
    if url.startswith("file://"):
        return Path(url.removeprefix("file://"))
    return None if "://" in url or "::" in url else Path(url)


def cache_folder(data_dir: str) -> Path:
    """Return the local folder for what is fetched: `data_dir`, or the user's cache for a URL."""
    return local_path(data_dir) or Path.home() / ".cache" / "naics-job"


def join(base: str, *parts: str) -> str:
    """Join path parts with "/" for URLs and local paths alike."""
    for part in parts:
        base = f"{base.rstrip('/')}/{part.strip('/')}" if base.rstrip("/") else f"/{part}"
    return base


def exists(url: str) -> bool:
    """Tell whether a file or folder is there. Raises `TransientError` if that cannot be asked."""
    try:
        if (path := local_path(url)) is not None:
            with translated("look for", url):
                path.stat()
        else:
            insist("look for", url, _info)
    except DataError as error:
        if isinstance(error.__cause__, FileNotFoundError) and not lacks_bucket(error.__cause__):
            return False
        raise
    return True


def size_of(url: str) -> int:
    """Return the size of a file in bytes."""
    if (path := local_path(url)) is not None:
        with translated("read the size of", url):
            return path.stat().st_size
    return int(insist("read the size of", url, _info)["size"])


def _info(fs: AbstractFileSystem, inside: str) -> dict[str, Any]:
    return cast(dict[str, Any], fs.info(inside))


def read_bytes(url: str) -> bytes:
    """Return the whole content of a small file."""
    if (path := local_path(url)) is not None:
        with translated("read", url):
            return path.read_bytes()
    return insist("read", url, lambda fs, inside: cast(bytes, fs.cat_file(inside)))


def open_read(url: str) -> BinaryIO:
    """Open a file for reading; the caller closes it. A remote one is read into memory first.

    So a connection that breaks in the middle is met where the request can be repeated.
    """
    if (path := local_path(url)) is not None:
        with translated("open", url):
            return path.open("rb")
    return io.BytesIO(read_bytes(url))


def _open(fs: AbstractFileSystem, inside: str) -> BinaryIO:
    return cast(BinaryIO, fs.open(inside, "rb", block_size=BLOCK_BYTES))


def write_bytes_atomic(url: str, data: bytes) -> None:
    """Write a small file so that a reader sees the old content or the new, nothing between."""
    if (path := local_path(url)) is not None:
        with translated("write", url):
            replace_local(path, lambda file: file.write(data))
    else:
        insist("write", url, lambda fs, inside: fs.pipe_file(inside, data))


def create_bytes(url: str, data: bytes) -> None:
    """Write a small file whose name nobody may have taken; `data` being there already is fine.

    Where the storage knows conditional writes, as local disks do, one of several writers at once
    wins. Elsewhere a writer only looks first: see `capabilities.probe`.

    Raises:
        TakenError: the file is there with other content.
    """
    if (path := local_path(url)) is None:
        insist("create", url, lambda fs, inside: _create(fs, inside, data))
        return
    with translated("create", url):
        try:
            create_local(path, data)
        except FileExistsError as error:
            if path.read_bytes() != data:
                raise _taken(url) from error


def _create(fs: AbstractFileSystem, inside: str, data: bytes) -> None:
    try:
        fs.pipe_file(inside, data, mode="create")
    except OSError as error:
        status, _ = answer_of(error)
        if status == NOT_IMPLEMENTED and not fs.exists(inside):
            fs.pipe_file(inside, data)
        elif not isinstance(error, FileExistsError) and status != PRECONDITION_FAILED:
            raise
        elif fs.cat_file(inside) != data:  # else an earlier try came through without our knowing
            raise _taken(inside) from error


def _taken(where: str) -> TakenError:
    return TakenError(f"cannot create {where}: it is there with other content", TAKEN)


def copy_into(local: Path, url: str) -> None:
    """Stream a local file to `url`; a local target is replaced in one step."""
    if (path := local_path(url)) is not None:
        with translated("write", url), local.open("rb") as source:
            replace_local(path, lambda file: shutil.copyfileobj(source, file, CHUNK_BYTES))
    else:
        insist("write", url, lambda fs, inside: fs.put_file(str(local), inside))


def fetch(url: str, cache_dir: Path, timeout_s: float | None = None) -> Path:
    """Return a local path with the content of `url`; a local file is returned as it is.

    A remote file is downloaded once per version (the name in `cache_dir` holds a digest of the
    URL, size and entity tag) and appears in the cache only when complete. With `timeout_s`, see
    `sessions.filesystem`, nothing is repeated: the caller decides how long to wait.
    """
    if (path := local_path(url)) is not None:
        with translated("read", url):
            path.stat()
            return path

    def download(fs: AbstractFileSystem, inside: str) -> Path:
        info = fs.info(inside)
        version = {k: str(v) for k, v in info.items() if not k.startswith("_")}
        key = hashlib.sha256(json.dumps([url, version], sort_keys=True).encode()).hexdigest()
        target = cache_dir / f"{key[:16]}-{inside.rstrip('/').rsplit('/', 1)[-1]}"
        if not target.exists():
            with _open(fs, inside) as source:
                replace_local(target, lambda file: _download(source, file, url, info.get("size")))
        return target

    return insist("read", url, download, timeout_s=timeout_s)


def _download(source: BinaryIO, file: BinaryIO, url: str, size: int | None) -> None:
    shutil.copyfileobj(source, file, CHUNK_BYTES)
    if size is not None and file.tell() != size:
        raise TransientError(f"{url} ended after {file.tell()} of {size} bytes", "try again")


def sha256_of(url: str | Path) -> str:
    """Return the sha256 of a file as 64 hex digits, reading it in chunks."""
    if (path := local_path(str(url))) is not None:
        with translated("read", str(url)), path.open("rb") as file:
            return _digest_of(file)

    def digest(fs: AbstractFileSystem, inside: str) -> str:
        with _open(fs, inside) as file:
            return _digest_of(file)

    return insist("read", str(url), digest)


def _digest_of(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def remove(url: str) -> None:
    """Remove a file; a missing one is no error."""
    if (path := local_path(url)) is not None:
        with translated("remove", url):
            path.unlink(missing_ok=True)
    else:
        insist("remove", url, _remove)


def _remove(fs: AbstractFileSystem, inside: str) -> None:
    with suppress(FileNotFoundError):
        fs.rm_file(inside)


def list_dir(url: str) -> list[str]:
    """Return the sorted names (not paths) in a folder; a missing folder has none.

    Raises:
        DataError: there is not even a bucket, or listing is refused.
    """
    if (path := local_path(url)) is not None:
        with translated("list", url):
            names = os.listdir(path) if path.is_dir() else []
    else:
        names = insist("list", url, _names)
    return sorted(name for name in names if not name.endswith(TEMPORARY))


def _names(fs: AbstractFileSystem, inside: str) -> list[str]:
    try:
        paths = fs.ls(inside, detail=False)
    except FileNotFoundError as error:
        if lacks_bucket(error) or is_hiccup(error):
            raise
        paths = []
    here = inside.rstrip("/")
    # object stores list a folder marker as an entry of itself
    return [p.rstrip("/").rsplit("/", 1)[-1] for p in paths if p.rstrip("/") != here]


def make_dir(url: str) -> None:
    """Make a folder and its parents where folders exist; an existing one is no error.

    S3 has none, and s3fs would make a bucket instead, of a name that may be a typing error.
    """
    if (path := local_path(url)) is not None:
        with translated("make the folder", url):
            path.mkdir(parents=True, exist_ok=True)
    elif not is_s3(url):
        insist("make the folder", url, lambda fs, inside: fs.makedirs(inside, exist_ok=True))


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
    if (path := local_path(url)) is not None:
        with translated("look for", url):
            status = path.stat()
            return f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"
    info = insist("look for", url, _info)
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
