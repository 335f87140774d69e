"""Files by path or URL: local folders, the in-memory file system and HTTP behave alike."""

import errno
import hashlib
import http.server
import json
import os
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest

from naics_job.errors import ConfigError, DataError, TransientError
from naics_job.storage import files
from naics_job.storage.failures import TakenError
from naics_job.storage.files import Manifest


@pytest.fixture(params=["local", "file-url", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "memory":
        yield "memory://files-test"
        fsspec.filesystem("memory").store.clear()
    else:
        yield str(tmp_path) if request.param == "local" else f"file://{tmp_path}"


def manifest_of(data: bytes, **changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "file": "a.parquet",
        "sha256": hashlib.sha256(data).hexdigest(),
        "rows": 3,
        "schema_version": 1,
        "source": "bundled",
        "inputs": {"codes": "0" * 64},
        "config_hash": "c" * 64,
        "created_at": "2026-01-02T03:04:05+00:00",
        "extra": {"columns": ["code", "title"], "seconds": 0.5},
    }
    return Manifest(**{**values, **changes})


def test_what_is_written_is_read_back(root: str) -> None:
    url = files.join(root, "a", "b.bin")
    assert not files.exists(url)
    files.write_bytes_atomic(url, b"one")
    files.write_bytes_atomic(url, b"three")
    assert files.exists(url)
    assert files.read_bytes(url) == b"three"
    assert files.size_of(url) == 5
    assert files.sha256_of(url) == hashlib.sha256(b"three").hexdigest()
    with files.open_read(url) as file:
        assert file.read(2) == b"th"


def test_listing_gives_names_and_a_missing_folder_has_none(root: str) -> None:
    for name in ("z.txt", "a.txt", "sub/c.txt"):
        files.write_bytes_atomic(files.join(root, "list", name), b"x")
    assert files.list_dir(files.join(root, "list")) == ["a.txt", "sub", "z.txt"]
    assert files.list_dir(files.join(root, "no-such-folder")) == []


def test_remove_forgives_a_missing_file(root: str) -> None:
    url = files.join(root, "gone.txt")
    files.write_bytes_atomic(url, b"x")
    files.remove(url)
    files.remove(url)
    assert not files.exists(url)


def test_copy_into_and_fetch_keep_the_bytes(root: str, tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(os.urandom(3 * files.CHUNK_BYTES + 17))
    url = files.join(root, "deep", "er", "copy.bin")
    files.copy_into(source, url)
    assert files.fetch(url, tmp_path / "cache").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("call", [files.read_bytes, files.size_of, files.open_read])
def test_a_missing_file_is_a_data_error(root: str, call: Any) -> None:
    with pytest.raises(DataError, match="no such file"):
        call(files.join(root, "nothing.bin"))


def test_fetch_of_a_missing_file_is_a_data_error(root: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.bin"):
        files.fetch(files.join(root, "nothing.bin"), tmp_path / "cache")


def test_fetch_follows_a_changed_remote_file(tmp_path: Path) -> None:
    url = "memory://fetch-test/model.bin"
    files.write_bytes_atomic(url, b"old")
    first = files.fetch(url, tmp_path)
    assert files.fetch(url, tmp_path) == first
    files.write_bytes_atomic(url, b"newer")
    assert files.fetch(url, tmp_path).read_bytes() == b"newer"
    fsspec.filesystem("memory").store.clear()


def test_join_works_for_paths_and_urls() -> None:
    assert files.join("s3://bucket/runs/", "a", "b.ckpt") == "s3://bucket/runs/a/b.ckpt"
    assert files.join("/data", "a") == "/data/a"
    assert files.join("data", "a", "b") == "data/a/b"


def test_a_local_write_is_not_private_to_the_writer(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        files.write_bytes_atomic(str(tmp_path / "x"), b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o644


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_keeps_the_old_content_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    target = tmp_path / "x.json"
    files.write_bytes_atomic(str(target), b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(DataError, match="No space left") as caught:
        files.write_bytes_atomic(str(target), b"new")
    assert "free space" in caught.value.hint
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_half_written_file_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / ".a.ckpt.0123abcd.tmp").write_bytes(b"half")
    assert files.list_dir(str(tmp_path)) == []


def test_an_unwritable_folder_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="cannot write"):
        files.write_bytes_atomic(str(tmp_path / "file" / "below"), b"x")


@pytest.mark.parametrize("url", ["nosuchscheme://a/b", "gdrive://a/b"])
def test_an_unknown_scheme_is_a_config_error(url: str) -> None:
    with pytest.raises(ConfigError, match="cannot use"):
        files.read_bytes(url)


def test_free_bytes_looks_at_the_nearest_folder(tmp_path: Path) -> None:
    free = files.free_bytes(str(tmp_path / "not" / "yet" / "there"))
    assert free is not None
    assert free > 0
    assert files.free_bytes("memory://x") is None


def test_manifest_is_read_back_and_checked(root: str) -> None:
    url = files.join(root, "a.parquet")
    files.write_bytes_atomic(url, b"table")
    assert files.read_manifest(url) is None
    manifest = manifest_of(b"table")
    files.write_manifest(url, manifest)
    assert files.verify_manifest(url) == manifest
    files.write_bytes_atomic(url, b"tablE")
    with pytest.raises(DataError, match="sha256 differs"):
        files.verify_manifest(url)
    files.remove(url)
    with pytest.raises(DataError, match="no such file"):
        files.verify_manifest(url)


def test_a_file_without_manifest_does_not_verify(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"x")
    with pytest.raises(DataError, match="no manifest"):
        files.verify_manifest(str(tmp_path / "a.parquet"))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '"x"', "{}", '{"file": "a", "unknown": 1}', "\xff\xfe"]
)
def test_a_broken_manifest_is_a_data_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.parquet.manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match="is not a manifest"):
        files.read_manifest(str(tmp_path / "a.parquet"))


def test_a_manifest_with_a_wrong_type_is_a_data_error(tmp_path: Path) -> None:
    url = str(tmp_path / "a.parquet")
    files.write_manifest(url, manifest_of(b"x"))
    raw = json.loads(Path(files.manifest_url(url)).read_text())
    Path(files.manifest_url(url)).write_text(json.dumps({**raw, "rows": "three"}))
    with pytest.raises(DataError, match="wrong type"):
        files.read_manifest(url)


class Answers(http.server.BaseHTTPRequestHandler):
    """/ok answers, /busy is overloaded, /forbidden refuses, everything else is missing."""

    def do_GET(self) -> None:
        status = {"/ok": 200, "/busy": 503, "/forbidden": 403}.get(self.path, 404)
        body = b"workbook" if status == 200 else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_http_answers_map_to_the_error_tree(server: str, tmp_path: Path) -> None:
    assert files.fetch(f"{server}/ok", tmp_path, timeout_s=5.0).read_bytes() == b"workbook"
    assert not files.exists(f"{server}/missing")
    with pytest.raises(DataError, match="no such file"):
        files.read_bytes(f"{server}/missing")
    with pytest.raises(DataError, match="403"):
        files.read_bytes(f"{server}/forbidden")
    with pytest.raises(TransientError, match="503"):
        files.fetch(f"{server}/busy", tmp_path)


def test_an_unreachable_host_is_transient(tmp_path: Path) -> None:
    nobody = "http://127.0.0.1:1/workbook.xlsx"
    for call in (files.read_bytes, files.exists, lambda url: files.fetch(url, tmp_path)):
        with pytest.raises(TransientError, match="cannot"):
            call(nobody)


def test_of_many_who_create_a_local_file_one_wins(tmp_path: Path) -> None:
    """All are there before any has written; the content is never seen in part."""
    url, start = str(tmp_path / "lease" / "00000001.json"), threading.Barrier(8)

    def create(number: int) -> bool:
        start.wait()
        try:
            files.create_bytes(url, b"%d" % number * 100_000)
        except TakenError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(create, range(8)))
    assert sum(won) == 1
    assert files.read_bytes(url) == b"%d" % won.index(True) * 100_000
    assert list((tmp_path / "lease").iterdir()) == [Path(url)]
    files.create_bytes(url, files.read_bytes(url))


def test_a_disk_without_links_creates_exclusively_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    url = str(tmp_path / "a.json")
    files.create_bytes(url, b"one")
    with pytest.raises(TakenError, match="other content"):
        files.create_bytes(url, b"two")
    assert files.read_bytes(url) == b"one"
