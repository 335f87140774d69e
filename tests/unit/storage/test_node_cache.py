"""One download per node, verified, evicted by last use; asked from threads and real processes."""

import errno
import fcntl
import hashlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from counting_server import CountingServer

from naics_job.errors import DataError, TransientError
from naics_job.storage import files, retry
from naics_job.storage.node_cache import NodeCache, Object, fetch_ahead

KB = 1000
GET = """
import sys, pathlib, time
from naics_job.storage.node_cache import NodeCache, Object
folder, limit, go, *wanted = sys.argv[1:]
cache = NodeCache(pathlib.Path(folder), int(limit))
print("ready", flush=True)
while go and not pathlib.Path(go).exists():
    time.sleep(0.01)
for url, sha256 in zip(wanted[::2], wanted[1::2]):
    print(cache.get(Object(url, sha256)), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with CountingServer() as running:
        yield running


@pytest.fixture
def put(server: CountingServer) -> Callable[..., Object]:
    """Serve `size` bytes of `name`."""

    def serve(name: str, size: int = KB) -> Object:
        content = hashlib.sha256(name.encode()).digest() * (size // 32 + 1)
        server.content[name] = content[:size]
        sha256 = hashlib.sha256(content[:size]).hexdigest()
        return Object(f"{server.url}/{name}", sha256, size)

    return serve


@pytest.fixture
def cache(tmp_path: Path) -> NodeCache:
    return NodeCache(tmp_path / "cache", 10 * KB)


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a process that asks a cache for objects, then holds them until its stdin is closed."""
    started: list[subprocess.Popen[str]] = []

    def start(*wanted: Object, go: str = "", limit: int = 10 * KB) -> subprocess.Popen[str]:
        pairs = [part for each in wanted for part in (each.url, each.sha256)]
        command = [sys.executable, "-c", GET, str(tmp_path / "cache"), str(limit), go, *pairs]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def cached(cache: NodeCache) -> set[str]:
    return {path.name for path in (cache.folder / "objects").iterdir()}


def age(cache: NodeCache, *objects: Object) -> None:
    """Say that these were used last, in this order, long ago."""
    for seconds, each in enumerate(objects):
        os.utime(cache.folder / "objects" / each.sha256, (seconds, seconds))


def content(each: Object, server: CountingServer) -> bytes:
    return server.content[each.url.rsplit("/", 1)[1]]


def test_the_second_time_nothing_is_asked_for(
    cache: NodeCache, put: Callable[..., Object], server: CountingServer
) -> None:
    wanted = put("a")
    path = cache.get(wanted)
    assert path.read_bytes() == content(wanted, server)
    assert cache.get(wanted) == path
    again = NodeCache(cache.folder, cache.max_bytes).get(Object(wanted.url, wanted.sha256))
    assert again == path
    assert server.gets == {"a": 1}
    assert not list((cache.folder / "fetching").iterdir())


def test_a_local_file_is_verified_and_stays_where_it_is(cache: NodeCache, tmp_path: Path) -> None:
    path = tmp_path / "local.bin"
    path.write_bytes(b"content")
    good = Object(str(path), hashlib.sha256(b"content").hexdigest(), 7)
    assert cache.get(good) == path
    assert cache.get(Object(f"file://{path}", good.sha256)) == path
    assert not cache.folder.exists()
    path.write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"local\.bin is damaged") as error:
        cache.get(good, "build it again")
    assert error.value.hint == "build it again"
    path.unlink()
    with pytest.raises(DataError, match="is missing"):
        cache.get(good)


def test_threads_that_ask_at_once_get_one_download(
    cache: NodeCache, put: Callable[..., Object], server: CountingServer
) -> None:
    wanted, server.delay_s = put("a"), 0.2
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(cache.get, [wanted] * 8))
    assert len(set(paths)) == 1
    assert server.gets == {"a": 1}


def test_processes_that_ask_at_once_get_one_download_of_each(
    ask: Callable[..., subprocess.Popen[str]],
    put: Callable[..., Object],
    server: CountingServer,
    tmp_path: Path,
) -> None:
    wanted = [put(f"shard-{number}") for number in range(4)]
    server.delay_s, go = 0.1, tmp_path / "go"
    orders = [wanted[first:] + wanted[:first] for first in range(4)]  # each begins elsewhere
    processes = [ask(*order, go=str(go)) for order in orders]
    go.touch()
    for process, order in zip(processes, orders, strict=True):
        lines = process.communicate()[0].split()
        assert process.returncode == 0
        assert [Path(line).read_bytes() for line in lines] == [content(o, server) for o in order]
    assert server.gets == {f"shard-{number}": 1 for number in range(4)}


def test_another_takes_over_from_a_killed_fetcher(
    cache: NodeCache,
    ask: Callable[..., subprocess.Popen[str]],
    put: Callable[..., Object],
    server: CountingServer,
) -> None:
    wanted, other, server.delay_s = put("a"), put("b"), 60.0
    fetcher = ask(wanted)
    deadline = time.monotonic() + 30
    while not server.gets["a"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    server.delay_s = 0.0
    fetcher.send_signal(signal.SIGKILL)
    fetcher.wait()
    assert list((cache.folder / "fetching").iterdir())
    cache.get(other)  # removes what nobody will finish
    assert not list((cache.folder / "fetching").iterdir())
    assert cache.get(wanted).read_bytes() == content(wanted, server)


@pytest.mark.parametrize("fault", ["damaged", "cut"])
def test_bad_downloads_are_repeated_then_refused(
    fault: str,
    cache: NodeCache,
    put: Callable[..., Object],
    server: CountingServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retry, "PATIENCE", retry.Patience(attempts=3, base_s=0.0, cap_s=0.0))
    wanted = put("a")
    getattr(server, fault)["a"] = 2
    assert cache.get(wanted).read_bytes() == content(wanted, server)
    assert server.gets["a"] == 3
    bad = put("b")
    getattr(server, fault)["b"] = 100
    with pytest.raises((DataError, TransientError)):
        cache.get(bad)
    assert cached(cache) == {wanted.sha256}
    assert not list((cache.folder / "fetching").iterdir())


def test_an_object_that_is_not_there_is_missing(
    cache: NodeCache, put: Callable[..., Object], server: CountingServer
) -> None:
    wanted = put("a")
    del server.content["a"]
    for each in (wanted, Object(wanted.url, wanted.sha256)):
        with pytest.raises(DataError, match="a is missing") as error:
            cache.get(each, "build it again")
        assert error.value.hint == "build it again"


@pytest.mark.parametrize("damage", [b"x", b"", b"shorter"])
def test_a_damaged_file_of_the_cache_is_fetched_again(
    damage: bytes,
    cache: NodeCache,
    put: Callable[..., Object],
    server: CountingServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    wanted = put("a")
    path = cache.get(wanted)
    path.write_bytes(content(wanted, server)[:-1] + damage if damage == b"x" else damage)
    other = NodeCache(cache.folder, cache.max_bytes)  # while the first has it in use
    caplog.clear()  # of the first download, which is told where INFO is heard
    assert other.get(wanted).read_bytes() == content(wanted, server)
    assert server.gets == {"a": 2}
    assert [record.getMessage() for record in caplog.records][:1] == ["cache.damaged"]


def test_what_was_used_longest_ago_makes_room(
    cache: NodeCache, put: Callable[..., Object], server: CountingServer
) -> None:
    old, recent, newest = put("old", 4 * KB), put("recent", 4 * KB), put("newest", 4 * KB)
    with_both = NodeCache(cache.folder, cache.max_bytes)
    with_both.get(recent)
    with_both.get(old)
    with_both.close()
    age(cache, old, recent)
    cache.get(newest)
    assert cached(cache) == {recent.sha256, newest.sha256}
    locks = {path.name.partition(".")[0] for path in (cache.folder / "locks").iterdir()}
    assert locks <= {recent.sha256, newest.sha256, "probe", "room"}
    cache.close()
    age(cache, newest, recent)
    NodeCache(cache.folder, cache.max_bytes).get(newest)  # a look touches it
    cache.get(old)
    assert cached(cache) == {newest.sha256, old.sha256}


def test_what_any_process_uses_stays(
    cache: NodeCache,
    ask: Callable[..., subprocess.Popen[str]],
    put: Callable[..., Object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    theirs, mine, third = put("theirs", 6 * KB), put("mine", 6 * KB), put("third", 2 * KB)
    holder = ask(theirs)
    assert holder.stdout is not None
    assert holder.stdout.readline()
    path = cache.get(mine)
    age(cache, theirs, mine)
    cache.get(third)
    assert cached(cache) == {theirs.sha256, mine.sha256, third.sha256}
    messages = [record.getMessage() for record in caplog.records]
    assert "cache.over_limit" in messages
    holder.communicate()  # it ends, and with it its use
    fourth = NodeCache(cache.folder, cache.max_bytes)
    fourth.get(put("fourth", 1 * KB))
    assert theirs.sha256 not in cached(cache)
    assert path.exists()


def test_a_cache_object_that_is_gone_uses_nothing(
    cache: NodeCache, put: Callable[..., Object]
) -> None:
    first, second = put("first", 6 * KB), put("second", 6 * KB)
    NodeCache(cache.folder, cache.max_bytes).get(first)
    cache.get(second)
    assert cached(cache) == {second.sha256}


def test_a_full_disk_names_the_setting(
    cache: NodeCache, put: Callable[..., Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, wanted = put("kept"), put("wanted", 5 * KB)
    holder = NodeCache(cache.folder, cache.max_bytes)
    holder.get(kept)
    monkeypatch.setattr(files, "free_bytes", lambda url: 2 * KB)
    with pytest.raises(DataError, match="is full") as error:
        cache.get(wanted)
    assert "data_loader.streaming.cache_dir" in error.value.hint
    assert cached(cache) == {kept.sha256}

    def fetch(url: str, folder: Path) -> Path:
        with files.translated("write", url):
            raise OSError(errno.ENOSPC, "No space left on device")
        return folder

    monkeypatch.setattr(files, "free_bytes", lambda url: 10**9)
    monkeypatch.setattr(files, "fetch", fetch)
    with pytest.raises(DataError, match="No space left") as error:
        cache.get(wanted)
    assert "data_loader.streaming.cache_dir" in error.value.hint


def test_a_full_disk_is_freed_below_the_limit(
    cache: NodeCache, put: Callable[..., Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program has filled the disk: files that nobody uses go, though the limit allows."""
    unused, wanted = put("unused", 2 * KB), put("wanted", 2 * KB)
    NodeCache(cache.folder, cache.max_bytes).get(unused)
    disk = 3 * KB

    def free(url: str) -> int:
        return disk - sum(path.stat().st_size for path in (cache.folder / "objects").iterdir())

    monkeypatch.setattr(files, "free_bytes", free)
    cache.get(wanted)
    assert cached(cache) == {wanted.sha256}


def test_a_folder_that_cannot_be_made_names_the_setting(
    tmp_path: Path, put: Callable[..., Object]
) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DataError, match="cannot use the cache folder") as error:
        NodeCache(tmp_path / "file", KB).get(put("a"))
    assert "data_loader.streaming.cache_dir" in error.value.hint


def test_without_locks_it_works_and_says_so(
    cache: NodeCache,
    put: Callable[..., Object],
    server: CountingServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def flock(handle: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    wanted = [put("a", 6 * KB), put("b", 6 * KB)]
    for each in wanted:
        assert cache.get(each).read_bytes() == content(each, server)
        assert cache.get(each).read_bytes() == content(each, server)
    assert server.gets == {"a": 1, "b": 1}
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert warnings == ["cache.no_locks"]
    assert not list((cache.folder / "fetching").iterdir())


def test_files_come_in_order_and_are_fetched_ahead(
    cache: NodeCache, put: Callable[..., Object], server: CountingServer
) -> None:
    wanted = [put(f"shard-{number}", 100) for number in range(7)]
    paths = fetch_ahead(cache, wanted)
    first = next(paths)
    deadline = time.monotonic() + 30
    while len(server.gets) < 7:  # while the first is still being read
        assert time.monotonic() < deadline
        time.sleep(0.01)
    found = [first.read_bytes(), *(path.read_bytes() for path in paths)]
    assert found == [content(each, server) for each in wanted]


def test_the_first_that_fails_ends_it(cache: NodeCache, put: Callable[..., Object]) -> None:
    wanted = [put("a"), Object(f"{put('a').url}-not", "0" * 64), put("c")]
    with pytest.raises(DataError, match="a-not is missing"):
        list(fetch_ahead(cache, wanted))
