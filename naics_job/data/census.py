"""The four Census workbooks, from a folder or any fsspec URL, as plain tables.

Fetching and reading are apart because they fail differently: a host that cannot be reached may be
tried again or replaced by the bundled table, a workbook that contradicts itself may not.
"""

import random
import re
import warnings
import zipfile
import zlib
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree.ElementTree import ParseError

from naics_job.config.data_schema import DataConfig
from naics_job.errors import DataError, TransientError
from naics_job.storage import files
from naics_job.storage.retry import with_retries
from naics_job.taxonomy.codes import CODE, clean_title, parent_of

ATTEMPTS = 3  # of a download, where no other source may take its place
CHECK_FILE = "check data.census_url and data.workbooks, or fetch the file again"
OTHER_SOURCE = (
    "try again later, name a folder of the workbooks in data.census_url, or set data.source=bundled"
)
CHECK_CONTENT = "fetch the four workbooks of one NAICS year again, or repair that row"
NO_CODE = "******"  # index rows that only point elsewhere: "Consultants -- see ..."
UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    ParseError,
    KeyError,
    ValueError,
    EOFError,
    OSError,
    TypeError,
    IndexError,
    AttributeError,
)  # what openpyxl lets through for cut and damaged files
COLUMNS = {
    "codes": (r"20\d\d naics us code", r"20\d\d naics us title"),
    "descriptions": (r"code", r"description"),
    "index": (r"naics\d\d", r"index item description"),
    "cross_references": (r"code", r"cross-reference"),
}


@dataclass(frozen=True)
class CensusTables:
    """The workbooks after reading: every code known, every text of one code in file order."""

    titles: dict[str, str]  # code -> title, in file order
    descriptions: dict[str, str]  # code -> cell text with its line breaks
    index: dict[str, list[str]]
    cross_references: dict[str, list[str]]


@dataclass(frozen=True)
class Row:
    """Two cells of a sheet and where they stand, for messages."""

    where: str
    code: str
    text: str


def workbook_urls(config: DataConfig) -> dict[str, str]:
    """URL of each workbook; spaces are escaped for http(s) only."""
    web = config.census_url.startswith(("http://", "https://"))
    names = asdict(config.workbooks)
    return {
        key: files.join(config.census_url, quote(name) if web else name)
        for key, name in names.items()
    }


def fetch_workbooks(config: DataConfig, folder: Path, attempts: int) -> dict[str, Path]:
    """Local paths of the four workbooks; remote ones are downloaded into the empty `folder`.

    Raises:
        TransientError: the host cannot be reached in `attempts` tries.
        DataError: a file is missing, or what came is no workbook.
    """
    names = asdict(config.workbooks)
    paths = {}
    for key, url in workbook_urls(config).items():
        path = _fetch(url, folder, config.census_timeout_s, attempts)
        _check_is_workbook(path, url)
        if path.parent == folder:
            path = path.rename(folder / names[key])  # errors name the file as the user knows it
        paths[key] = path
    return paths


def _fetch(url: str, folder: Path, timeout_s: float, attempts: int) -> Path:
    try:
        return with_retries(
            partial(files.fetch, url, folder, timeout_s),
            attempts=attempts,
            base_s=0.5,
            cap_s=5.0,
            rng=random.Random(),
        )
    except TransientError as error:
        raise TransientError(str(error.args[0]), OTHER_SOURCE) from error
    except DataError as error:
        raise DataError(str(error.args[0]), CHECK_FILE) from error


def _check_is_workbook(path: Path, url: str) -> None:
    with path.open("rb") as file:
        head = file.read(4)
    if not head:
        raise DataError(f"{url} is empty (0 bytes)", CHECK_FILE)
    if head != b"PK\x03\x04":  # for example the web page of a proxy
        raise DataError(f"{url} is not an Excel workbook (.xlsx)", CHECK_FILE)


def read_tables(paths: dict[str, Path]) -> CensusTables:
    """Read and cross-check the workbooks.

    Raises:
        DataError: unreadable, empty or wrong sheet; a malformed, duplicate, orphaned or unknown
            code; a code without a row among the descriptions.
    """
    titles = _read_titles(paths["codes"])
    descriptions: dict[str, str] = {}
    for row in _read_rows(paths["descriptions"], "descriptions"):
        _check_known(row, titles)
        if row.code in descriptions:
            raise DataError(f"{row.where}: code {row.code} occurs twice", CHECK_CONTENT)
        descriptions[row.code] = row.text
    for code in titles:
        if code not in descriptions:
            file = paths["descriptions"].name
            raise DataError(f"{file}: code {code} of the code table has no row", CHECK_CONTENT)
    return CensusTables(
        titles=titles,
        descriptions=descriptions,
        index=_read_lists(paths["index"], "index", titles),
        cross_references=_read_lists(paths["cross_references"], "cross_references", titles),
    )


def _read_titles(path: Path) -> dict[str, str]:
    titles: dict[str, str] = {}
    rows = _read_rows(path, "codes")
    for row in rows:
        title = clean_title(row.text)
        if CODE.fullmatch(row.code) is None:
            raise DataError(f"{row.where}: {row.code!r} is not a NAICS code", CHECK_CONTENT)
        if row.code in titles:
            raise DataError(f"{row.where}: code {row.code} occurs twice", CHECK_CONTENT)
        if not title:
            raise DataError(f"{row.where}: code {row.code} has no title", CHECK_CONTENT)
        titles[row.code] = title
    for row in rows:
        above = parent_of(row.code)
        if above is not None and above not in titles:
            message = f"{row.where}: code {row.code} has no parent: {above} is missing"
            raise DataError(message, CHECK_CONTENT)
    return titles


def _read_lists(path: Path, key: str, titles: dict[str, str]) -> dict[str, list[str]]:
    lists: dict[str, list[str]] = {}
    for row in _read_rows(path, key):
        text = " ".join(row.text.split())
        if row.code == NO_CODE or not text:
            continue
        _check_known(row, titles)
        lists.setdefault(row.code, []).append(text)
    return lists


def _check_known(row: Row, titles: dict[str, str]) -> None:
    if row.code not in titles:
        raise DataError(f"{row.where}: code {row.code!r} is not in the code table", CHECK_CONTENT)


def _read_rows(path: Path, key: str) -> list[Row]:
    """The two columns of workbook `key`, from whichever sheet has them; empty rows left out."""
    from openpyxl import load_workbook

    try:
        # openpyxl leaves a damaged file open that it was given by name
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # styles it does not know
            with closing(load_workbook(file, read_only=True, data_only=True)) as book:
                sheets = {
                    sheet.title: [list(cells) for cells in sheet.iter_rows(values_only=True)]
                    for sheet in book.worksheets
                }
    except UNREADABLE as error:
        problem = f"{path.name} cannot be read as a workbook: {error}"
        raise DataError(problem, CHECK_FILE) from error
    for name, cells in sheets.items():
        columns = _find_columns(cells, COLUMNS[key])
        if columns is not None:
            return _rows_of(path.name, name, cells, columns)
    wanted = " and ".join(f'"{pattern}"' for pattern in COLUMNS[key])
    seen = "; ".join(f"{name}: {_header(cells)}" for name, cells in sheets.items())
    raise DataError(
        f"{path.name}: no sheet has the columns {wanted} (sheets and first rows: {seen})",
        f"{CHECK_FILE}; data.workbooks.{key} must name the right one",
    )


def _find_columns(cells: list[list[Any]], patterns: tuple[str, ...]) -> tuple[int, int] | None:
    header = _header(cells)
    found = []
    for pattern in patterns:
        hits = [column for column, name in enumerate(header) if re.fullmatch(pattern, name)]
        if not hits:
            return None
        found.append(hits[0])
    return found[0], found[1]


def _header(cells: list[list[Any]]) -> list[str]:
    return [" ".join(_text(cell).split()).lower() for cell in cells[0]] if cells else []


def _rows_of(file: str, sheet: str, cells: list[list[Any]], columns: tuple[int, int]) -> list[Row]:
    rows = []
    for number, line in enumerate(cells[1:], start=2):
        code, text = (_text(line[column]) if column < len(line) else "" for column in columns)
        if code.strip() or text.strip():
            rows.append(Row(f"{file}, sheet {sheet}, row {number}", code.strip(), text))
    if not rows:
        raise DataError(f"{file}, sheet {sheet}: no rows below the header", CHECK_FILE)
    return rows


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():  # 111110.0, as some programs save codes
        cell = int(cell)
    return str(cell).replace("_x000D_", "")  # an escaped carriage return
