"""embeddings.parquet, one row per code, and items.parquet, one per text of a six-digit code."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from naics_job.errors import DataError
from naics_job.storage.files import (
    Manifest,
    manifest_url,
    open_read,
    read_bytes,
    read_manifest,
    remove,
    sha256_of,
    write_bytes_atomic,
)
from naics_job.storage.files import write_manifest as write_manifest_beside
from naics_job.storage.parquet import read_parquet
from naics_job.taxonomy.tree import Taxonomy

if TYPE_CHECKING:  # a query must not import it
    from torch import Tensor

FILE, ITEMS = "embeddings.parquet", "items.parquet"
SCHEMA_VERSION = 1
CURVATURE_KEY = b"curvature"
EXPORT_AGAIN = "export the run again: naics-embedder train --ckpt-path last"


@dataclass(frozen=True)
class EmbeddingTable:
    """What `read_embeddings` returns; row i of `points` belongs to `codes[i]`."""

    codes: list[str]
    levels: np.ndarray  # [N] int8, digits
    titles: list[str]
    points: np.ndarray  # [N, dim + 1] float32, time component first
    curvature: float  # c > 0, sectional curvature -c
    run_id: str


@dataclass(frozen=True)
class ItemTable:
    """What `read_items` returns; row i of `points` belongs to text i."""

    codes: list[str]
    texts: pa.ChunkedArray  # strings; few are looked at
    points: np.ndarray  # [N, dim + 1] float32


def write_embeddings(
    url: str,
    points: "Tensor",
    taxonomy: Taxonomy,
    curvature: float,
    manifest: Manifest,
) -> str:
    """Write points `[N, dim + 1]` float32 with codes, levels and titles; returns the sha256.

    The curvature c, the run and the meaning of the columns are in the Parquet schema's metadata.
    `manifest` gives the provenance; file name, rows and checksum are filled in here.
    """
    columns = {
        "code": pa.array(taxonomy.codes, pa.string()),
        "level": pa.array(taxonomy.level.astype(np.int8), pa.int8()),
        "title": pa.array(taxonomy.titles, pa.string()),
    }
    data = _parquet(columns, points, curvature, str(manifest.extra.get("run_id", "")))
    remove(manifest_url(url))  # a crash before the new manifest must not leave the old one
    write_bytes_atomic(url, data)
    digest = sha256_of(url)
    filled = {"file": FILE, "sha256": digest, "rows": len(taxonomy.codes)}
    write_manifest_beside(url, Manifest(**{**vars(manifest), **filled}))
    return digest


def write_items(
    url: str,
    codes: Sequence[str],
    texts: Sequence[str],
    points: "Tensor",
    curvature: float,
    run_id: str,
) -> str:
    """Write points `[N, dim + 1]` of texts of six-digit codes; returns the sha256."""
    columns = {"code": pa.array(codes, pa.string()), "text": pa.array(texts, pa.string())}
    data = _parquet(columns, points, curvature, run_id)
    write_bytes_atomic(url, data)
    return hashlib.sha256(data).hexdigest()


def read_items(url: str, sha256: str) -> ItemTable:
    """Read what `write_items` wrote.

    Raises:
        DataError: there is no such file, or it is not the one with this checksum.
    """
    data = read_bytes(url)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise DataError(f"{url} is damaged: its sha256 is another", EXPORT_AGAIN)
    try:
        table = read_parquet(pa.BufferReader(data))
        points = _points(table)
        return ItemTable(table["code"].to_pylist(), table["text"], points)
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise DataError(f"{url} is no table of texts: {error}", EXPORT_AGAIN) from error


def read_embeddings(url: str) -> EmbeddingTable:
    """Read what `write_embeddings` wrote.

    Raises:
        DataError: there is no such file, it is damaged, or it is not an embedding table.
    """
    with open_read(url) as stream:
        data = stream.read()
    manifest = read_manifest(url)
    if manifest is not None and hashlib.sha256(data).hexdigest() != manifest.sha256:
        hint = f"{EXPORT_AGAIN}, or restore the file"
        raise DataError(f"{url} is damaged: its sha256 is not the one of its manifest", hint)
    try:
        table = read_parquet(pa.BufferReader(data))
        metadata = table.schema.metadata or {}
        return EmbeddingTable(
            codes=table["code"].to_pylist(),
            levels=np.from_dlpack(table["level"].combine_chunks()),
            titles=table["title"].to_pylist(),
            points=_points(table),
            curvature=float(metadata[CURVATURE_KEY]),
            run_id=metadata[b"run_id"].decode(),
        )
    except (pa.ArrowException, KeyError, ValueError) as error:
        hint = f"{EXPORT_AGAIN}, or name another run"
        raise DataError(f"{url} is not an embedding table: {error}", hint) from error


def _parquet(
    columns: Mapping[str, pa.Array], points: "Tensor", curvature: float, run_id: str
) -> bytes:
    """A table of columns and points `[row, dim + 1]` with what a reader must know of them."""
    values = points.detach().cpu().float().contiguous()
    flat = pa.array(values.numpy().reshape(-1), pa.float32())
    embedding = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    metadata = {
        CURVATURE_KEY: repr(float(curvature)).encode(),
        b"run_id": run_id.encode(),
        b"model": b"Lorentz: -x0^2 + x1^2 + ... = -1/curvature, time component first",
    }
    table = pa.table({**columns, "embedding": embedding})
    sink = pa.BufferOutputStream()
    named = table.replace_schema_metadata(metadata)
    pq.write_table(named, sink, compression="zstd", use_dictionary=list(columns))
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _points(table: pa.Table) -> np.ndarray:
    """`[row, dim + 1]` float32.

    Not by to_numpy() of pyarrow, which imports pandas where that is installed, a quarter of a
    search.
    """
    embedding = table["embedding"].combine_chunks()
    points: np.ndarray = np.from_dlpack(embedding.flatten())
    return points.reshape(len(table), embedding.type.list_size)
