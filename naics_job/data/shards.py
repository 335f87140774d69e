"""Shards of a token store: safetensors files that are mapped into memory, not copied.

The pages of a mapped file are shared by all processes of a node and can be dropped when memory is
short, so a store costs a process hardly anything beyond the tokens it is reading.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from naics_job.errors import DataError
from naics_job.storage import files
from naics_job.storage.node_cache import NodeCache, Object, fetch_ahead
from naics_job.taxonomy.tree import IntArray

MANIFEST = "manifest.json"  # written last: a folder without it is not a store
LENGTH_BYTES = 8  # of the header of a safetensors file, in front of it

Shard = dict[str, npt.NDArray[np.int32]]
Entry = dict[str, Any]  # of the manifest: sha256 and, in newer stores, bytes


class MappedIds:
    """Token ids `[token]` int32 of several shards as if they were one array.

    Reading copies what is asked for and nothing else.
    """

    dtype = np.dtype(np.int32)

    def __init__(self, parts: Sequence[npt.NDArray[np.int32]]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, where: IntArray) -> npt.NDArray[np.int32]:
        """The ids at `where` `[n]`, in that order."""
        if len(self._parts) == 1:
            return self._parts[0][where]
        part = np.searchsorted(self._starts, where, side="right") - 1  # [n]
        order = np.argsort(part, kind="stable")
        numbers, counts = np.unique(part, return_counts=True)
        out = np.empty(len(where), dtype=np.int32)
        for number, end, count in zip(numbers, np.cumsum(counts), counts, strict=True):
            rows = order[end - count : end]
            out[rows] = self._parts[number][where[rows] - self._starts[number]]
        return out


def write_shard(url: str, arrays: Shard) -> Entry:
    """Write a shard and return its line of the manifest."""
    content = save(arrays)
    files.write_bytes_atomic(url, content)
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def write_shards_manifest(folder: str, facts: dict[str, files.JSON]) -> None:
    """Write the manifest, which makes the folder a store."""
    text = json.dumps(facts, indent=2, sort_keys=True)
    files.write_bytes_atomic(files.join(folder, MANIFEST), text.encode())


def open_shards(folder: str, num_codes: int, cache: NodeCache) -> list[Shard]:
    """Map all shards of a store, each compared with its checksum and fetched once per node.

    Raises:
        DataError: the manifest or a shard is missing or damaged, or of other codes.
        TransientError: the storage could not be reached for minutes.
    """
    hint = f"delete the folder {folder}; the next start builds it again"
    url = files.join(folder, MANIFEST)
    try:
        manifest = json.loads(files.read_bytes(url))
        known, listed = int(manifest["num_codes"]), dict(manifest["shards"])
        wanted = [_object(folder, name, listed[name]) for name in sorted(listed)]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"token store manifest {url} is damaged", hint) from error
    if known != num_codes:
        raise DataError(f"{url} is of {known} codes, the taxonomy has {num_codes}", hint)
    paths = fetch_ahead(cache, wanted, hint)
    return [_mapped(path, each, hint) for path, each in zip(paths, wanted, strict=True)]


def _object(folder: str, name: str, entry: Entry | str) -> Object:
    if isinstance(entry, str):  # a store of an earlier version, without sizes
        entry = {"sha256": entry, "bytes": None}
    size = entry["bytes"]
    return Object(
        files.join(folder, name), str(entry["sha256"]), None if size is None else int(size)
    )


def _mapped(path: Path, origin: Object, hint: str) -> Shard:
    """The arrays of a safetensors file as views of one mapping: one open file per shard."""
    try:
        raw = np.memmap(path, dtype=np.uint8, mode="r")
        length = int.from_bytes(raw[:LENGTH_BYTES].tobytes(), "little")
        header = json.loads(raw[LENGTH_BYTES : LENGTH_BYTES + length].tobytes())
        arrays = {}
        for name, facts in header.items():
            if name == "__metadata__":
                continue
            if facts["dtype"] != "I32":
                raise TypeError(f"{name} is {facts['dtype']}, not I32")
            begin, end = (LENGTH_BYTES + length + offset for offset in facts["data_offsets"])
            if end > len(raw):
                raise ValueError(f"{name} goes beyond the end of the file")
            arrays[name] = np.asarray(raw[begin:end]).view(np.int32)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise DataError(f"token shard {origin.url} cannot be read: {error}", hint) from error
    return arrays
