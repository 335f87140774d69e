"""The columns of a user's file of labelled texts, as text, whatever the format of the file."""

import gzip
import zlib
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.csv as pcsv

from naics_job.errors import DataError
from naics_job.storage.parquet import read_parquet

TEXT, CODE, WEIGHT = "text", "code", "weight"
DELIMITERS = {".csv": ",", ".tsv": "\t"}
PARQUET = ".parquet"
BLOCK_BYTES = 64 << 20  # more than any row: a row may not go over two borders of blocks
SHOWN_ROWS = 5
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
COLUMNS_HINT = "one row a text: columns text and code, and weight if some texts count more"

Column = list[str | None]


def format_of(url: str, key: str) -> str:
    """`.csv`, `.tsv` or `.parquet`, by the ending of `url`; the first two may be gzipped.

    Raises:
        DataError: it has another ending.
    """
    name = url.lower()
    plain = name.removesuffix(".gz")
    found = next((ending for ending in DELIMITERS if plain.endswith(ending)), None)
    if found is None and not name.endswith(PARQUET):
        raise DataError(
            f"{key}: {url} ends in none of .csv, .tsv and .parquet",
            "the ending tells the format; .csv.gz and .tsv.gz are read too",
        )
    return found or PARQUET


def read_columns(data: bytes, url: str, key: str) -> dict[str, Column]:
    """The columns text, code and, where the file has it, weight, each `[row]`.

    Args:
        data: the content of the file.
        url: its ending tells the format.
        key: the setting or option that named the file, for messages.

    Raises:
        DataError: it is no table of that format, a column is missing or of a wrong type, or the
            rows of a text format differ in their number of fields.
    """
    ending = format_of(url, key)
    try:
        if ending == PARQUET:
            table = read_parquet(pa.BufferReader(data))
        else:
            table = _read_text_table(data, DELIMITERS[ending], url, key)
    except pa.ArrowException as error:
        raise DataError(
            f"{key}: {url} is not a readable {ending} file: {error}", COLUMNS_HINT
        ) from error
    _check_names(table.column_names, url, key)
    names = [name for name in (TEXT, CODE, WEIGHT) if name in table.column_names]
    return {name: _as_text(table[name], name, url, key) for name in names}


def row_list(rows: Sequence[int], notes: Sequence[str] = ()) -> str:
    """The first of `rows` (0 is the first row of data) as people count them, and how many.

    Args:
        rows: ascending.
        notes: something about each row.
    """
    if not rows:
        return "none"
    first = [str(row + 1) for row in rows[:SHOWN_ROWS]]
    if notes:
        first = [f"{row} {note}" for row, note in zip(first, notes, strict=False)]
    return f"{', '.join(first)}{', ...' if len(rows) > SHOWN_ROWS else ''} ({len(rows)} in all)"


def _read_text_table(data: bytes, delimiter: str, url: str, key: str) -> pa.Table:
    text = _unzipped(data, url, key).removeprefix(BYTE_ORDER_MARK)
    _check_utf8(text, url, key)
    if not text.strip():
        raise DataError(f"{key}: {url} is empty", COLUMNS_HINT)
    odd_rows: list[int] = []

    def skip(row: pcsv.InvalidRow) -> str:
        odd_rows.append(row.number - 2)  # the header is row 1
        return "skip"

    table = pcsv.read_csv(
        pa.BufferReader(text),
        read_options=pcsv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),  # numbers rows
        parse_options=pcsv.ParseOptions(
            delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip
        ),
        convert_options=pcsv.ConvertOptions(
            column_types=dict.fromkeys((TEXT, CODE, WEIGHT), pa.string()), strings_can_be_null=False
        ),
    )
    if odd_rows:
        raise DataError(
            f"{key}: {url} has rows with another number of fields than its header: "
            f"{row_list(odd_rows)}",
            'put a text that holds the delimiter, a quote or a line end in "quotes", and write '
            'a quote inside it twice: ""',
        )
    return table


def _unzipped(data: bytes, url: str, key: str) -> bytes:
    if not url.lower().endswith(".gz"):
        return data
    try:
        return gzip.decompress(data)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"{key}: {url} is not a whole gzip file: {error}", "pack it again"
        ) from error


def _check_utf8(text: bytes, url: str, key: str) -> None:
    bad = text.find(b"\0")  # UTF-16 without a mark
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = error.start
    if bad >= 0:
        line = text.count(b"\n", 0, bad) + 1
        raise DataError(
            f"{key}: {url} is not UTF-8 text: line {line} holds the byte 0x{text[bad]:02x}",
            "convert it, as with `iconv -f WINDOWS-1252 -t UTF-8`, or save it as CSV UTF-8",
        )


def _check_names(names: Sequence[str], url: str, key: str) -> None:
    there = ", ".join(map(repr, names)) or "none"
    for name in (TEXT, CODE):
        if name not in names:
            raise DataError(f"{key}: {url} has no column {name!r}; it has: {there}", COLUMNS_HINT)
    for name in (TEXT, CODE, WEIGHT):
        if names.count(name) > 1:
            raise DataError(f"{key}: {url} has the column {name!r} twice: {there}", COLUMNS_HINT)


def _as_text(column: pa.ChunkedArray, name: str, url: str, key: str) -> Column:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    is_number = pa.types.is_integer(kind) or (name == WEIGHT and pa.types.is_floating(kind))
    if not (is_text or (is_number and name != TEXT)):
        wanted = {TEXT: "text", CODE: "text or whole numbers", WEIGHT: "numbers"}[name]
        raise DataError(
            f"{key}: the column {name!r} of {url} holds {kind}, not {wanted}",
            "write it with another type",
        )
    values: Column = column.cast(pa.string()).to_pylist()
    return values
