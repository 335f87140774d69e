"""Token shards of a bucket: one request for each per node, whatever the number of processes."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_proxy import FaultProxy

from naics_job.data.shards import open_shards, write_shard, write_shards_manifest
from naics_job.storage.node_cache import NodeCache

pytestmark = pytest.mark.integration
SHARDS, CODES = 6, 60
OPEN = """
import sys, pathlib
from naics_job.data.shards import open_shards
from naics_job.storage.node_cache import NodeCache
folder, cache = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
shards = open_shards(folder, 60, NodeCache(pathlib.Path(cache), 10**9))
print([int(shard["title.ids"].sum()) for shard in shards])
"""


@pytest.fixture
def store(bucket: Any) -> str:
    folder = f"{bucket.url}/tokens/abc"
    listed: dict[str, Any] = {}
    for number in range(SHARDS):
        name = f"shard-{number:05d}.safetensors"
        arrays = {"title.ids": np.full(100_000, number, dtype=np.int32)}
        listed[name] = write_shard(f"{folder}/{name}", arrays)
    write_shards_manifest(folder, {"version": 1, "num_codes": CODES, "shards": listed})
    return folder


def open_at_once(store: str, cache: Path, processes: int) -> None:
    """Let so many processes open the store at the same time; each sees all of it."""
    pipe, command = subprocess.PIPE, [sys.executable, "-c", OPEN, store, str(cache)]
    started = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(processes)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in started:
            out = process.communicate(timeout=120)[0]
            assert (process.returncode, out) == (0, f"{[n * 100_000 for n in range(SHARDS)]}\n")
    finally:
        for process in started:
            process.kill()
            process.communicate()


def shard_gets(proxy: FaultProxy) -> Counter[str]:
    gets = (line.partition(" /")[2] for line in proxy.requests if line.startswith("GET /"))
    return Counter(Path(key).stem for key in gets if key.endswith(".safetensors"))


def test_four_processes_ask_for_each_shard_once(
    proxy: FaultProxy, store: str, tmp_path: Path
) -> None:
    once = {f"shard-{number:05d}": 1 for number in range(SHARDS)}
    proxy.watch()
    open_at_once(store, tmp_path / "node-a", 4)
    assert shard_gets(proxy) == once
    proxy.watch()
    open_at_once(store, tmp_path / "node-a", 4)  # a second run on the node
    assert shard_gets(proxy) == {}
    open_at_once(store, tmp_path / "node-b", 2)
    assert shard_gets(proxy) == once


@pytest.mark.parametrize("fault", ["busy", "reset", "lost"])
def test_a_broken_request_is_made_again(
    fault: Any, proxy: FaultProxy, store: str, tmp_path: Path, patience: Any
) -> None:
    patience(5)
    for k in (1, 2, 4, 8):
        proxy.fail(k, fault)
        shards = open_shards(store, CODES, NodeCache(tmp_path / f"{fault}-{k}", 10**9))
        sums = [int(shard["title.ids"].sum()) for shard in shards]
        assert sums == [number * 100_000 for number in range(SHARDS)]
