"""The few file operations on a real S3 server, beside a client that shares nothing with s3fs."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from naics_job.errors import ConfigError, DataError
from naics_job.storage import files

pytestmark = pytest.mark.integration
Patience = Callable[[int], None]


def test_what_is_written_is_read_back(bucket: Any, tmp_path: Path) -> None:
    url = files.join(bucket.url, "a", "b.bin")
    assert not files.exists(url)
    files.write_bytes_atomic(url, b"one")
    files.write_bytes_atomic(url, b"three")
    assert files.exists(url)
    assert files.exists(files.join(bucket.url, "a"))
    assert files.read_bytes(url) == b"three" == bucket.get("a/b.bin")
    assert files.size_of(url) == 5
    assert files.sha256_of(url) == hashlib.sha256(b"three").hexdigest()
    with files.open_read(url) as file:
        assert file.read(2) == b"th"
    files.remove(url)
    files.remove(url)
    assert not files.exists(url)
    assert bucket.keys() == []


def test_large_files_keep_their_bytes(bucket: Any, tmp_path: Path) -> None:
    """Larger than one block of a read and, with 101 MB, than one part of an upload."""
    source = tmp_path / "source.bin"
    for size in (2 * files.BLOCK_BYTES + 17, 101 << 20):
        with source.open("wb") as file:
            for _ in range(size >> 20):
                file.write(os.urandom(1 << 20))
            file.write(os.urandom(size % (1 << 20)))
        url = files.join(bucket.url, "large", f"{size}.bin")
        files.copy_into(source, url)
        digest = files.sha256_of(source)
        assert files.size_of(url) == size
        assert files.sha256_of(url) == digest
        assert files.sha256_of(files.fetch(url, tmp_path / "cache")) == digest


def test_nothing_is_remembered_of_what_another_client_changes(bucket: Any) -> None:
    folder = files.join(bucket.url, "run")
    assert files.list_dir(folder) == []
    names = []
    for number in range(3):
        name = f"step-{number}.ckpt"
        assert not files.exists(files.join(folder, name))
        bucket.put(f"run/{name}", b"x" * number)
        names.append(name)
        assert files.exists(files.join(folder, name))
        assert files.list_dir(folder) == names
        assert files.size_of(files.join(folder, name)) == number
    bucket.put("run/sub/c.txt", b"x")
    assert files.list_dir(folder) == [*names, "sub"]
    assert files.list_dir(bucket.url) == ["run"]


def test_more_names_than_one_answer_lists(bucket: Any) -> None:
    names = [f"{number:04}.json" for number in range(1010)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: files.write_bytes_atomic(f"{bucket.url}/n/{name}", b""), names))
    assert files.list_dir(f"{bucket.url}/n") == names


def test_a_rewritten_file_has_another_version(bucket: Any, tmp_path: Path) -> None:
    url = files.join(bucket.url, "model.bin")
    bucket.put("model.bin", b"old")
    first, version = files.fetch(url, tmp_path), files.version_of(url)
    assert files.version_of(url) == version
    assert files.fetch(url, tmp_path) == first
    bucket.put("model.bin", b"new")
    assert files.version_of(url) != version
    assert files.fetch(url, tmp_path).read_bytes() == b"new"


def test_a_missing_object_is_a_data_error_at_once(bucket: Any, tmp_path: Path) -> None:
    url = files.join(bucket.url, "nothing.bin")
    reads = (files.read_bytes, files.size_of, files.open_read, files.sha256_of, files.version_of)
    for call in (*reads, lambda url: files.fetch(url, tmp_path)):
        with pytest.raises(DataError, match="no such file"):
            call(url)


def test_a_missing_bucket_is_named_and_never_made(bucket: Any, patience: Patience) -> None:
    patience(3)
    url = "s3://no-such-bucket-of-ours/run/a.json"
    # not a write: this server makes the bucket then, which others do not
    for call in (files.list_dir, files.exists, files.read_bytes, files.sha256_of):
        with pytest.raises(DataError, match="the bucket does not exist"):
            call(url)
    files.make_dir(url)
    assert "no-such-bucket-of-ours" not in str(bucket.client.list_buckets()["Buckets"])


@pytest.mark.parametrize(
    ("name", "value"),
    [("AWS_SECRET_ACCESS_KEY", "wrong"), ("AWS_ACCESS_KEY_ID", "nobody"), ("AWS_PROFILE", "gone")],
)
def test_refused_credentials_are_permanent(
    bucket: Any, sessions: Callable[[], None], patience: Patience,
    monkeypatch: pytest.MonkeyPatch, name: str, value: str,
) -> None:  # fmt: skip
    patience(2)
    bucket.put("run/a.json", b"{}")
    monkeypatch.setenv(name, value)
    sessions()
    for call in (files.list_dir, files.exists, files.read_bytes):
        with pytest.raises(DataError) as caught:
            call(f"{bucket.url}/run/a.json")
        assert "credentials" in caught.value.hint


def test_an_endpoint_that_cannot_be_is_a_setting_to_correct(
    bucket: Any, sessions: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "127.0.0.1:8333")
    sessions()
    for call in (files.list_dir, files.exists, files.read_bytes):
        with pytest.raises(ConfigError, match="begins with http"):
            call(f"{bucket.url}/run/a.json")


def test_of_many_who_create_a_file_one_wins(bucket: Any) -> None:
    url = files.join(bucket.url, "run.json")

    def create(number: int) -> bool:
        try:
            files.create_bytes(url, b"writer %d" % number)
        except DataError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(create, range(16)))
    assert sum(won) == 1
    winner = b"writer %d" % won.index(True)
    assert bucket.get("run.json") == winner
    with pytest.raises(DataError, match="there with other content"):
        files.create_bytes(url, b"writer 99")
    files.create_bytes(url, winner)  # as after an answer that was lost
