"""Read rows with a text from CSV, TSV, JSON lines and Parquet, a block at a time.

A row that cannot be read is a row all the same: it has no text, but an error that says why. Fields
of CSV stay strings, so that "007" comes out as it went in.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from naics_job.errors import DataError

Record: TypeAlias = dict[str, Any]
Found: TypeAlias = tuple[str | None, str | None]  # a text or an error
Columns: TypeAlias = "pa.Table | list[Record]"  # a table where the file has types

MAX_ROW_BYTES = 64 << 20  # of a line or a field; longer is an unclosed quote or another format
BUFFER_BYTES = 1 << 20
BOMS_16 = (b"\xff\xfe", b"\xfe\xff")
EXACT_FLOAT = 2**53  # float64 has every integer up to here
LARGEST = 2**63 - 1
TYPES = {"bool": pa.bool_(), "int": pa.int64(), "long": pa.int64(), "float": pa.float64()}
JSON_NAMES = {"bool": "true or false", "int": "a number", "float": "a number", "list": "a list"}
NAME_COLUMN = "name the column of the texts: --text-column NAME"


@dataclass(frozen=True)
class RowBlock:
    """Some rows in their order; of each either a text or an error."""

    columns: Columns
    texts: list[str | None]
    errors: list[str | None]


class RowSource(Protocol):
    """An open file of rows."""

    schema: pa.Schema  # of all columns, the text among them

    @property
    def num_rows(self) -> int | None:
        """How many, None where only the end tells."""

    def blocks(self, num_rows: int) -> Iterator[RowBlock]:
        """The rows, `num_rows` at a time; may be read once."""


class CsvSource:
    """Rows of a file with a header and `delimiter` between fields, quoted as spreadsheets do."""

    num_rows = None

    def __init__(self, path: Path, name: str, text_column: str, delimiter: str) -> None:
        self._path, self._name = path, name
        self._text_column, self._delimiter = text_column, delimiter
        with path.open("rb") as file:
            if file.read(2) in BOMS_16:
                raise DataError(f"{name} is UTF-16", "save it as UTF-8")
        csv.field_size_limit(MAX_ROW_BYTES)
        names = next((fields for _, fields in self._fields() if fields), None)
        if not isinstance(names, list):
            raise DataError(f"{name} has no header", "put the column names in its first line")
        _check_column(name, names, text_column)
        self.schema = pa.schema([(_clean(name), pa.string()) for name in names])

    def blocks(self, num_rows: int) -> Iterator[RowBlock]:
        """The rows, `num_rows` at a time."""
        rows = self._rows()
        while block := list(islice(rows, num_rows)):
            yield _block_of(block, self._text_column)

    def _fields(self) -> Iterator[tuple[int, list[str] | str]]:
        """Line number and fields of each record, or why it is none."""
        with self._path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file, delimiter=self._delimiter, strict=True)
            while True:
                line = reader.line_num + 1
                try:
                    yield line, next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    if "limit" in str(error):
                        message = f"line {line} of {self._name} has no end"
                        raise DataError(message, "look for a quote that is not closed") from error
                    yield line, f"line {line} is broken: {error}"

    def _rows(self) -> Iterator[tuple[Record, str | None]]:
        names, records = self.schema.names, self._fields()
        next(fields for _, fields in records if fields)
        for line, fields in records:
            if isinstance(fields, str):
                yield {}, fields
                continue
            if not fields and len(names) > 1:
                continue
            row = dict(zip(names, map(_clean, fields or [""]), strict=False))
            if len(fields or [""]) != len(names):
                yield row, f"line {line} has {len(fields)} fields, not {len(names)}"
            elif any(not _is_unicode(field) for field in fields):
                yield row, f"line {line} is not UTF-8"
            else:
                yield row, None


class JsonSource:
    """Rows of a file with a JSON object per line; empty lines are none.

    The file is read once before, for the names of the columns: any row may bring a new one.
    """

    def __init__(self, path: Path, name: str, text_column: str) -> None:
        self._path, self._name, self._text_column = path, name, text_column
        kinds: dict[str, set[str]] = {}
        self.num_rows = 0
        for row, _ in self._rows():
            self.num_rows += 1
            for column, value in row.items():
                kinds.setdefault(column, set()).add(_kind(value))
        if self.num_rows:
            _check_column(name, list(kinds), text_column)
        self.schema = pa.schema([(name, _type(found)) for name, found in kinds.items()])

    def blocks(self, num_rows: int) -> Iterator[RowBlock]:
        """The rows, `num_rows` at a time."""
        rows = self._rows()
        while block := list(islice(rows, num_rows)):
            yield _block_of(block, self._text_column)

    def _rows(self) -> Iterator[tuple[Record, str | None]]:
        with self._path.open("rb") as file:
            line = 0
            while content := file.readline(MAX_ROW_BYTES):
                line += 1
                if len(content) == MAX_ROW_BYTES:
                    message = f"line {line} of {self._name} has no end"
                    raise DataError(message, "put each row on a line of its own, as JSON")
                if content.strip():
                    yield _parsed(content, line)


class ParquetSource:
    """Rows of a Parquet file, with the types they have there."""

    def __init__(self, path: Path, name: str, text_column: str) -> None:
        self._text_column = text_column
        self._file = pq.ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False)
        self.schema, self.num_rows = self._file.schema_arrow, self._file.metadata.num_rows
        _check_column(name, self.schema.names, text_column)
        kind = self.schema.field(text_column).type
        value = kind.value_type if pa.types.is_dictionary(kind) else kind
        strings = (pa.string(), pa.large_string(), pa.string_view(), pa.null())
        if value not in strings:
            message = f"the column {text_column!r} of {name} holds {kind}, not strings"
            raise DataError(message, NAME_COLUMN)

    def blocks(self, num_rows: int) -> Iterator[RowBlock]:
        """The rows, `num_rows` at a time."""
        with self._file:
            for batch in self._file.iter_batches(num_rows, use_threads=False):
                table = pa.Table.from_batches([batch])
                found = [_text(value) for value in table[self._text_column].to_pylist()]
                yield RowBlock(table, *_apart(found))


def open_source(path: Path, name: str, ending: str, text_column: str) -> RowSource:
    """Open the rows of `path`, which messages call `name` and which has the format of `ending`.

    Raises:
        DataError: it is no such file, or has no such column.
    """
    if ending == "parquet":
        return ParquetSource(path, name, text_column)
    if ending == "jsonl":
        return JsonSource(path, name, text_column)
    return CsvSource(path, name, text_column, "\t" if ending == "tsv" else ",")


def _block_of(rows: list[tuple[Record, str | None]], text_column: str) -> RowBlock:
    found = [(None, error) if error else _text(row.get(text_column)) for row, error in rows]
    return RowBlock([row for row, _ in rows], *_apart(found))


def _apart(found: list[Found]) -> tuple[list[str | None], list[str | None]]:
    return [text for text, _ in found], [error for _, error in found]


def _text(value: object) -> Found:
    """The text of a row, or why it has none."""
    if value is None:
        return None, "the text is missing"
    if not isinstance(value, str):
        return None, f"the text is {JSON_NAMES.get(type(value).__name__, 'an object')}"
    return (value, None) if value.strip() else (None, "the text is empty")


def _parsed(content: bytes, line: int) -> tuple[Record, str | None]:
    try:
        row = json.loads(content)  # takes a byte order mark too
    except (ValueError, RecursionError):
        return {}, f"line {line} is not JSON"
    if not isinstance(row, dict):
        return {}, f"line {line} is not a JSON object"
    if b"\\ud" in content.lower() and not _is_unicode(json.dumps(row, ensure_ascii=False)):
        return {}, f"line {line} has half a character"  # a lone surrogate
    return row, None


def _kind(value: object) -> str:
    if type(value) is int and abs(value) > EXACT_FLOAT:
        return "long" if -LARGEST <= value <= LARGEST else "huge"
    return type(value).__name__


def _type(kinds: set[str]) -> pa.DataType:
    """Type of a column whose values are of `kinds`; strings hold what has none, as JSON."""
    some = kinds - {"NoneType"}
    if some == {"int", "float"}:
        return pa.float64()
    if some == {"int", "long"}:
        return pa.int64()
    return TYPES.get(some.pop(), pa.string()) if len(some) == 1 else pa.string()


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _clean(field: str) -> str:
    """`field` with a mark in place of bytes that are not UTF-8."""
    if _is_unicode(field):
        return field
    return field.encode(errors="surrogateescape").decode(errors="replace")


def _check_column(name: str, names: list[str], text_column: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{name} has two columns {twice[0]!r}", "rename one of them")
    if text_column not in names:
        few = ", ".join(names[:10]) or "none"
        message = f"{name} has no column {text_column!r}; it has {few}"
        raise DataError(message, NAME_COLUMN)
