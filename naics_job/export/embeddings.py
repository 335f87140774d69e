"""embeddings.parquet: one row per code with its point on the hyperboloid."""

import hashlib
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
    read_manifest,
    remove,
    sha256_of,
    write_bytes_atomic,
)
from naics_job.storage.files import write_manifest as write_manifest_beside
from naics_job.taxonomy.tree import Taxonomy

if TYPE_CHECKING:  # a query must not import it
    from torch import Tensor

FILE = "embeddings.parquet"
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
    values = points.detach().cpu().float().contiguous()
    flat = pa.array(values.numpy().reshape(-1), pa.float32())
    embedding = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    table = pa.table(
        {
            "code": pa.array(taxonomy.codes, pa.string()),
            "level": pa.array(taxonomy.level.astype(np.int8), pa.int8()),
            "title": pa.array(taxonomy.titles, pa.string()),
            "embedding": embedding,
        }
    )
    metadata = {
        CURVATURE_KEY: repr(float(curvature)).encode(),
        b"run_id": str(manifest.extra.get("run_id", "")).encode(),
        b"model": b"Lorentz: -x0^2 + x1^2 + ... = -1/curvature, time component first",
    }
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
    data = sink.getvalue().to_pybytes()
    remove(manifest_url(url))  # a crash before the new manifest must not leave the old one
    write_bytes_atomic(url, data)
    digest = sha256_of(url)
    filled = {"file": FILE, "sha256": digest, "rows": len(taxonomy.codes)}
    write_manifest_beside(url, Manifest(**{**vars(manifest), **filled}))
    return digest


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
        table = pq.ParquetFile(pa.BufferReader(data)).read()
        metadata = table.schema.metadata or {}
        embedding = table["embedding"].combine_chunks()
        # to_numpy() of pyarrow imports pandas where that is installed, a quarter of a search
        points = np.from_dlpack(embedding.flatten()).reshape(len(table), -1)
        return EmbeddingTable(
            codes=table["code"].to_pylist(),
            levels=np.from_dlpack(table["level"].combine_chunks()),
            titles=table["title"].to_pylist(),
            points=points,
            curvature=float(metadata[CURVATURE_KEY]),
            run_id=metadata[b"run_id"].decode(),
        )
    except (pa.ArrowException, KeyError, ValueError) as error:
        hint = f"{EXPORT_AGAIN}, or name another run"
        raise DataError(f"{url} is not an embedding table: {error}", hint) from error
