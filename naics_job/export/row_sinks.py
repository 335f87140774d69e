"""Write rows with added columns as CSV, TSV, JSON lines or Parquet, a block at a time."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from naics_job.errors import ConfigError
from naics_job.export.row_sources import Columns, Record

GROUP_ROWS, GROUP_BYTES = 16_384, 32 << 20  # of a row group; the first that is reached
QUOTED = re.compile(r'[",\t\r\n]|^\s|\s$')


class RowSink(Protocol):
    """An open file that takes rows."""

    def write(self, columns: Columns, added: Sequence[Mapping[str, Any]]) -> None:
        """Append rows: the columns of the input, then the added ones of the same rows."""

    def close(self) -> None:
        """Write what is left; the file itself stays open."""


class CsvSink:
    """Rows below a header; a null is an empty field."""

    def __init__(self, file: BinaryIO, schema: pa.Schema, added: pa.Schema, delimiter: str) -> None:
        self._file, self._names = file, [*schema.names, *added.names]
        self._delimiter = delimiter
        self._line(self._names)

    def write(self, columns: Columns, added: Sequence[Mapping[str, Any]]) -> None:
        """Append rows."""
        for row, more in zip(_records(columns), added, strict=True):
            whole = {**row, **more}
            self._line([whole.get(name) for name in self._names])

    def close(self) -> None:
        """Nothing is left."""

    def _line(self, values: Sequence[object]) -> None:
        fields = [_field(value) for value in values]
        self._file.write((self._delimiter.join(fields) + "\n").encode())


class JsonSink:
    """One JSON object per row."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, columns: Columns, added: Sequence[Mapping[str, Any]]) -> None:
        """Append rows."""
        for row, more in zip(_records(columns), added, strict=True):
            self._file.write(_json({**row, **more}).encode() + b"\n")

    def close(self) -> None:
        """Nothing is left."""


class ParquetSink:
    """Rows with types: those of a Parquet input, or what the values of the input allow."""

    def __init__(self, file: BinaryIO, schema: pa.Schema, added: pa.Schema) -> None:
        self._schema, self._added = schema, added
        whole = pa.schema([*schema, *added], metadata=schema.metadata)
        self._writer = pq.ParquetWriter(file, whole, compression="zstd")
        self._waiting: list[pa.Table] = []

    def write(self, columns: Columns, added: Sequence[Mapping[str, Any]]) -> None:
        """Append rows, which reach the file in groups."""
        table = _table(columns, self._schema)
        for field, values in zip(self._added, _table(list(added), self._added), strict=True):
            table = table.append_column(field, values)
        self._waiting.append(table)
        rows = sum(each.num_rows for each in self._waiting)
        size = sum(each.nbytes for each in self._waiting)
        if rows >= GROUP_ROWS or size >= GROUP_BYTES:
            self._write_group()

    def close(self) -> None:
        """Write the last group and the footer."""
        self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting))
            self._waiting = []


def open_sink(file: BinaryIO, ending: str, schema: pa.Schema, added: pa.Schema) -> RowSink:
    """Begin a file in the format of `ending`.

    Args:
        file: where to.
        ending: csv, tsv, jsonl or parquet.
        schema: columns of the input.
        added: further columns.

    Raises:
        ConfigError: a column has a type that the format cannot hold.
    """
    if ending == "parquet":
        return ParquetSink(file, schema, added)
    for field in schema:
        if _is_binary(field.type):
            message = f"the column {field.name!r} holds {field.type}, which is no text"
            raise ConfigError(message, "let --output end in .parquet")
    if ending == "jsonl":
        return JsonSink(file)
    return CsvSink(file, schema, added, "\t" if ending == "tsv" else ",")


def _is_binary(kind: pa.DataType) -> bool:
    """Whether values of `kind` are or contain bytes."""
    kinds = pa.types
    binary = (kinds.is_binary, kinds.is_large_binary, kinds.is_fixed_size_binary)
    if any(test(kind) for test in binary) or kind == pa.binary_view():
        return True
    inside = [kind.value_type] if kinds.is_dictionary(kind) else []
    inside += [kind.field(number).type for number in range(kind.num_fields)]
    return any(_is_binary(each) for each in inside)


def _records(columns: Columns) -> list[Record]:
    """`columns` as values that JSON has; times and exact decimals are strings."""
    if not isinstance(columns, pa.Table):
        return columns
    plain = {}
    for name, column in zip(columns.column_names, columns.columns, strict=True):
        kind = column.type
        text = pa.types.is_temporal(kind) or pa.types.is_decimal(kind)
        plain[name] = (pc.cast(column, pa.string()) if text else column).to_pylist()
    return [dict(zip(plain, values, strict=True)) for values in zip(*plain.values(), strict=True)]


def _table(columns: Columns, schema: pa.Schema) -> pa.Table:
    if isinstance(columns, pa.Table):
        return columns
    arrays = [_array([row.get(field.name) for row in columns], field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if kind == pa.string():
        values = [
            value if value is None or isinstance(value, str) else _json(value) for value in values
        ]
    if kind == pa.float64():
        values = [None if value is None else float(value) for value in values]
    return pa.array(values, kind)


def _field(value: object) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else _json(value)
    return '"' + text.replace('"', '""') + '"' if QUOTED.search(text) else text


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
