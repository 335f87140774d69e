"""Columns, types and versions of the Parquet tables, and the one way they are read and written."""

import hashlib
import logging
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from naics_job.errors import DataError
from naics_job.observability.logs import event
from naics_job.storage import files
from naics_job.storage.node_cache import NodeCache, Object
from naics_job.storage.parquet import read_parquet

log = logging.getLogger(__name__)

CHANNELS = ("title", "description", "examples", "excluded")
REBUILD = "run `naics-embedder data all --force`"
PREPARE = "run `naics-embedder data all`"


@dataclass(frozen=True)
class TableContract:
    """What a table holds; `version` grows whenever columns or their meaning change."""

    name: str
    version: int
    schema: pa.Schema


CODE_NAME = pa.dictionary(pa.int32(), pa.string())

DESCRIPTIONS = TableContract(  # one row per code, in taxonomy order
    "descriptions",
    2,
    pa.schema(
        [
            ("code", pa.string()),
            ("title", pa.string()),
            ("level", pa.int8()),  # digits
            ("parent", pa.string()),  # null for sectors
            ("description", pa.string()),  # empty when there is none
            ("description_source", pa.string()),  # own | pointer | only_child | missing | composed
            ("examples", pa.list_(pa.string())),
            ("excluded", pa.list_(pa.string())),  # sentences about what belongs elsewhere
            ("excluded_codes", pa.list_(pa.string())),  # codes those sentences name, sorted
            ("queries", pa.list_(pa.string())),  # index items held out of the examples
        ]
    ),
)
PAIR = [  # one row per unordered pair of codes of one sector, a < b in taxonomy order
    ("a", pa.int32()),
    ("b", pa.int32()),
    ("code_a", CODE_NAME),
    ("code_b", CODE_NAME),
]
RELATIONS = TableContract(
    "relations",
    1,
    pa.schema(
        [
            *PAIR,
            ("relation_id", pa.int8()),  # data.relations.Relation: what b is to a
            ("relation", pa.dictionary(pa.int8(), pa.string())),  # in full: "second cousin"
        ]
    ),
)
DISTANCES = TableContract(
    "distances",
    1,
    pa.schema(
        [
            *PAIR,
            ("distance", pa.int8()),  # edges of the tree
            ("excluded", pa.bool_()),  # one names the other as an exclusion; never for lineal pairs
        ]
    ),
)
TRIPLETS = TableContract(  # anchors with their positives; negatives are drawn while training
    "triplets",
    1,
    pa.schema(
        [
            ("anchor", pa.int32()),
            ("positive", pa.int32()),
            ("anchor_code", CODE_NAME),
            ("positive_code", CODE_NAME),
            ("relation", pa.int8()),  # data.relations.Relation: what the positive is to the anchor
            ("distance", pa.int8()),
            ("margin", pa.float32()),  # 1 / distance
        ]
    ),
)


@dataclass(frozen=True)
class BuildResult:
    """One table after a `data` command: rebuilt, or found up to date."""

    url: str
    rows: int
    rebuilt: bool
    source: str  # census | bundled
    seconds: float


def read_table(url: str, contract: TableContract, cache: NodeCache | None = None) -> pa.Table:
    """Read a table whose manifest, checksum, version and columns are as they must be.

    With a `cache`, a remote table is fetched once per node.

    Raises:
        DataError: missing, damaged, of another version, or with other columns.
    """
    manifest = files.read_manifest(url)
    if manifest is None:
        state = "has no manifest" if files.exists(url) else "does not exist"
        raise DataError(f"{contract.name} table {url} {state}", PREPARE)
    if manifest.schema_version != contract.version:
        raise DataError(
            f"{url} has version {manifest.schema_version} of the {contract.name} table, "
            f"this program reads version {contract.version}",
            REBUILD,
        )
    try:
        with _opened(url, manifest.sha256, cache) as source:
            table = read_parquet(source)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{url} is not a readable Parquet file: {error}", REBUILD) from error
    if not table.schema.equals(contract.schema):
        raise DataError(_schema_difference(url, contract, table.schema), REBUILD)
    return table


def _opened(url: str, sha256: str, cache: NodeCache | None) -> pa.NativeFile:
    """The verified content of a table."""
    if cache is not None:
        return pa.memory_map(str(cache.get(Object(url, sha256), REBUILD)))
    data = files.read_bytes(url)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise damaged(url)
    return pa.BufferReader(data)


def write_table(  # the six facts of a manifest
    url: str,
    table: pa.Table,
    contract: TableContract,
    *,
    source: str,
    inputs: dict[str, str],
    config_hash: str,
    extra: dict[str, files.JSON] | None = None,
) -> files.Manifest:
    """Write `table` and then its manifest; a crash in between leaves no manifest at all."""
    assert table.schema.equals(contract.schema), f"{contract.name}: {table.schema}"
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", use_dictionary=True)
    data = sink.getvalue().to_pybytes()
    manifest = files.Manifest(
        file=url.rsplit("/", 1)[-1],
        sha256=hashlib.sha256(data).hexdigest(),
        rows=table.num_rows,
        schema_version=contract.version,
        source=source,
        inputs=inputs,
        config_hash=config_hash,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        extra=extra or {},
    )
    files.remove(files.manifest_url(url))
    files.write_bytes_atomic(url, data)
    files.write_manifest(url, manifest)
    sizes = {"rows": table.num_rows, "bytes": len(data)}
    event(log, logging.INFO, "data.written", table=contract.name, url=url, source=source, **sizes)
    return manifest


def check_content(url: str, manifest: files.Manifest) -> None:
    """Raise a `DataError` unless the file has the checksum of its manifest."""
    if files.sha256_of(url) != manifest.sha256:
        raise damaged(url)


def damaged(url: str) -> DataError:
    """The error for a file that differs from its manifest."""
    return DataError(f"{url} is damaged: its sha256 is not the one of its manifest", REBUILD)


def _schema_difference(url: str, contract: TableContract, found: pa.Schema) -> str:
    expected = {field.name: str(field.type) for field in contract.schema}
    actual = {field.name: str(field.type) for field in found}
    wrong = [
        f"{name} is {actual.get(name, 'missing')} instead of {kind}"
        for name, kind in expected.items()
        if actual.get(name) != kind
    ]
    wrong += [f"{name} is unknown" for name in actual if name not in expected]
    problem = "; ".join(wrong) or "the columns are in another order"
    return f"{url} has other columns than the {contract.name} table: {problem}"
