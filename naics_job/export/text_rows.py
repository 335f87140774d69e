"""Answer the texts of a file, row by row, into another file of the same or another format."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeAlias
from urllib.parse import urlsplit

import pyarrow as pa

from naics_job.errors import ConfigError, DataError
from naics_job.export.row_sinks import open_sink
from naics_job.export.row_sources import RowBlock, RowSource, open_source
from naics_job.storage import files
from naics_job.storage.failures import translated
from naics_job.storage.local import replace_local

ENDINGS = {
    **{".csv": "csv", ".tsv": "tsv"},
    **{".jsonl": "jsonl", ".ndjson": "jsonl"},
    ".parquet": "parquet",
}
TEXT, ERROR = "text", "error"
BLOCK_ROWS = 256

Answer: TypeAlias = "Mapping[str, Any] | str"  # the result columns, or why there are none
Answers: TypeAlias = Callable[[list[str]], Sequence[Answer]]
Progress: TypeAlias = Callable[[int, int | None], None]  # rows done, rows in all where known


@dataclass(frozen=True)
class RowFiles:
    """Which texts are answered, and where to."""

    source: str  # path or URL
    target: str
    text_column: str = TEXT
    block_rows: int = BLOCK_ROWS  # held in memory at once


@dataclass(frozen=True)
class RowCounts:
    """How many rows were read, and how many of them have an error instead of an answer."""

    rows: int
    broken: int


def check_files(asked: RowFiles) -> None:
    """Refuse what cannot be read or written before anything is loaded.

    Raises:
        ConfigError: an ending is unknown, or both are one file.
        DataError: the source is missing, or the bucket of the target.
    """
    for url in (asked.source, asked.target):
        _ending(url)
    if _same(asked.source, asked.target):
        raise ConfigError(f"{asked.target} is the input too", "name another file with --output")
    if not files.exists(asked.source):
        raise DataError(f"{asked.source} does not exist", "check the path or URL of --input")
    files.exists(asked.target)


def answer_rows(
    asked: RowFiles, results: pa.Schema, answers: Answers, progress: Progress | None = None
) -> RowCounts:
    """Write every row of a file with the columns `results` and `error` added, in order.

    A row without a usable text has nulls there and says why in `error`. The target appears when
    all rows are written.

    Args:
        asked: the files.
        results: names and types of what `answers` gives.
        answers: called with some texts, returns for each its results, or why it has none.
        progress: called after every block.

    Raises:
        ConfigError: see `check_files`; or the input has a column of such a name.
        DataError: a file cannot be read or written, or there is no such column of texts.
    """
    check_files(asked)
    with tempfile.TemporaryDirectory(prefix="naics-rows-") as folder:
        path = files.fetch(asked.source, Path(folder))
        with _reading(asked.source):
            source = open_source(path, asked.source, _ending(asked.source), asked.text_column)
        added = pa.schema([*results, pa.field(ERROR, pa.string())])
        taken = [name for name in added.names if name in source.schema.names]
        if taken:
            message = f"{asked.source} has a column {taken[0]!r} already"
            raise ConfigError(message, "rename or drop it: the answers have columns of that name")
        work = _Work(asked, source, added, answers, progress)
        if (target := files.local_path(asked.target)) is None:
            target = Path(folder) / "answers"
        with translated("write", asked.target):
            replace_local(target, work.fill)
        if files.local_path(asked.target) is None:
            files.copy_into(target, asked.target)
    return RowCounts(work.rows, work.broken)


class _Work:
    """The rows of one source on their way to the target."""

    def __init__(
        self,
        asked: RowFiles,
        source: RowSource,
        added: pa.Schema,
        answers: Answers,
        progress: Progress | None,
    ) -> None:
        self._asked, self._source, self._added = asked, source, added
        self._answers, self._progress = answers, progress
        self.rows = self.broken = 0

    def fill(self, file: BinaryIO) -> None:
        """Write all rows to `file`."""
        sink = open_sink(file, _ending(self._asked.target), self._source.schema, self._added)
        with closing(sink):  # a Parquet writer must be closed before its file
            for block in self._blocks():
                added = self._added_to(block)
                sink.write(block.columns, added)
                self.rows += len(added)
                self.broken += sum(row[ERROR] is not None for row in added)
                if self._progress is not None:
                    self._progress(self.rows, self._source.num_rows)

    def _blocks(self) -> Iterator[RowBlock]:
        blocks = self._source.blocks(self._asked.block_rows)
        while True:
            with _reading(self._asked.source):
                block = next(blocks, None)
            if block is None:
                return
            yield block

    def _added_to(self, block: RowBlock) -> list[dict[str, Any]]:
        """The added columns of each row of `block`."""
        texts = [text for text in block.texts if text is not None]
        answers = iter(self._answers(texts) if texts else ())
        rows: list[dict[str, Any]] = []
        for text, error in zip(block.texts, block.errors, strict=True):
            answer = next(answers) if text is not None else str(error)
            row = dict.fromkeys(self._added.names)
            row.update({ERROR: answer} if isinstance(answer, str) else answer)
            rows.append(row)
        return rows


@contextmanager
def _reading(url: str) -> Iterator[None]:
    with translated("read", url):
        try:
            yield
        except pa.ArrowException as error:
            hint = "check that its content fits its ending"
            raise DataError(f"cannot read {url}: {error}", hint) from error


def _ending(url: str) -> str:
    """The format of a file, a value of ENDINGS."""
    name = urlsplit(url).path if files.local_path(url) is None else url
    ending = ENDINGS.get(PurePosixPath(name).suffix.lower())
    if ending is None:
        known = ", ".join(ENDINGS)
        raise ConfigError(f"{url} has no ending that tells its format", f"known: {known}")
    return ending


def _same(one: str, other: str) -> bool:
    first, second = files.local_path(one), files.local_path(other)
    if first is None or second is None:
        return one == other
    if first.exists() and second.exists():
        return first.samefile(second)
    return first.resolve() == second.resolve()
