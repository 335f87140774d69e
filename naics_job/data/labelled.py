"""Texts whose codes are known, from a file of the user's: to train on, or to measure with.

Rows are counted from 1, the header and empty lines not among them.
"""

import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from naics_job.data.labelled_file import (
    CODE,
    COLUMNS_HINT,
    SHOWN_ROWS,
    TEXT,
    WEIGHT,
    Column,
    format_of,
    read_columns,
    row_list,
)
from naics_job.errors import DataError
from naics_job.observability.logs import event
from naics_job.storage.files import read_bytes
from naics_job.taxonomy.codes import MERGED_SECTORS
from naics_job.taxonomy.tree import IntArray, Taxonomy

log = logging.getLogger(__name__)
SHOWN_CHARACTERS = 20  # of a wrong value


@dataclass(frozen=True, eq=False)
class LabelledTexts:
    """The rows of one file, those given twice only once.

    Attributes:
        texts: as they stand in the file.
        positions: `[row]` int64, the position of each text's code, of any level.
        weights: `[row]` float64, above 0.
        rows: `[row]` int64, the number of the row in the file, the first being 1.
        sha256: of the bytes of the file.
        url: where it was read.
    """

    texts: list[str]
    positions: IntArray
    weights: npt.NDArray[np.float64]
    rows: IntArray
    sha256: str
    url: str

    def __len__(self) -> int:
        return len(self.texts)


def read_labelled(url: str, taxonomy: Taxonomy, key: str) -> LabelledTexts:
    """Read the columns text, code and, if there, weight of a CSV, TSV or Parquet file.

    A code may be of any level; a part of a merged sector ("31") means the whole. Without weights,
    all are 1. A text that stands twice with one code is kept where it stands first, with the
    weight it has there; one that stands with several codes is kept with each. Both are in the
    warning `labelled.doubles`.

    Args:
        url: path or URL; it ends in .csv, .tsv, .csv.gz, .tsv.gz or .parquet.
        taxonomy: the codes that may be named.
        key: the setting or option that named the file, for messages.

    Raises:
        DataError: the file cannot be read, or a row is not as it must be.
    """
    format_of(url, key)
    data = read_bytes(url)
    columns = read_columns(data, url, key)
    if not columns[TEXT]:
        raise DataError(f"{key}: {url} has no rows below its header", COLUMNS_HINT)
    texts = _filled(columns[TEXT], f"{key}: {url} has rows without a text")
    names = _filled(columns[CODE], f"{key}: {url} has rows without a code")
    positions = _positions(names, taxonomy, f"{key}: {url}")
    weights = _weights(columns.get(WEIGHT) or ["1"] * len(texts), f"{key}: {url}")
    kept = _without_doubles(texts, positions, url)
    return LabelledTexts(
        texts=[texts[row] for row in kept],
        positions=positions[kept],
        weights=weights[kept],
        rows=np.array(kept, dtype=np.int64) + 1,
        sha256=hashlib.sha256(data).hexdigest(),
        url=url,
    )


def refuse_overlap(train: LabelledTexts, evaluation: LabelledTexts) -> None:
    """Raise a `DataError` if a text to measure with is one to train on.

    Texts are the same if they differ in case and white space only.
    """
    row_of = {plain(text): row for text, row in zip(train.texts, train.rows.tolist(), strict=True)}
    shared = [row for row, text in enumerate(evaluation.texts) if plain(text) in row_of]
    if not shared:
        return
    notes = [f"(row {row_of[plain(evaluation.texts[row])]} there)" for row in shared[:SHOWN_ROWS]]
    rows = (evaluation.rows[shared] - 1).tolist()
    raise DataError(
        f"texts of {evaluation.url} stand in {train.url}, which is trained on: "
        f"row {row_list(rows, notes)}",
        "a score on texts that were trained on says nothing about new ones; take them out of one "
        "of the files",
    )


def plain(text: str) -> str:
    """`text` without case and with single spaces: equal for texts that are the same."""
    return " ".join(text.casefold().split())


def _filled(column: Column, problem: str) -> list[str]:
    """The column, or a `DataError` naming the rows that are empty."""
    empty = [row for row, value in enumerate(column) if value is None or not value.strip()]
    if empty:
        raise DataError(f"{problem}: {row_list(empty)}", "fill them in or remove these rows")
    return [value for value in column if value is not None]


def _positions(names: Sequence[str], taxonomy: Taxonomy, where: str) -> IntArray:
    """Position `[row]` int64 of each code; DataError naming the rows of unknown ones."""
    position_of = {code: position for position, code in enumerate(taxonomy.codes)}
    codes = [name.strip() for name in names]
    found = [position_of.get(code, position_of.get(MERGED_SECTORS.get(code, ""))) for code in codes]
    unknown = [row for row, position in enumerate(found) if position is None]
    if unknown:
        raise DataError(
            f"{where} has rows with an unknown code: {_with_values(unknown, codes)}",
            "such a code may be retired or of another edition of the classification; a code must "
            f"be one of the {len(taxonomy)} codes of the code table, of any level",
        )
    return np.array(found, dtype=np.int64)


def _weights(column: Column, where: str) -> npt.NDArray[np.float64]:
    """Weights `[row]` float64; DataError naming the rows where there is none."""
    weights = np.array([_number(value or "") for value in column])
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights > 0))).tolist()
    if wrong:
        raise DataError(
            f"{where} has rows whose weight is no number above 0: {_with_values(wrong, column)}",
            "correct them, or remove the column: then every text counts the same",
        )
    return weights


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan


def _with_values(rows: Sequence[int], values: Sequence[str | None]) -> str:
    return row_list(
        rows, [repr((values[row] or "")[:SHOWN_CHARACTERS]) for row in rows[:SHOWN_ROWS]]
    )


def _without_doubles(texts: Sequence[str], positions: IntArray, url: str) -> list[int]:
    """The rows to keep, and a warning about those that say something again or otherwise."""
    seen: dict[str, set[int]] = {}
    kept, doubles, others = [], [], []
    for row, (text, position) in enumerate(zip(texts, positions.tolist(), strict=True)):
        before = seen.setdefault(plain(text), set())
        if position in before:
            doubles.append(row)
            continue
        if before:
            others.append(row)
        before.add(position)
        kept.append(row)
    if doubles or others:
        event(
            log,
            logging.WARNING,
            "labelled.doubles",
            url=url,
            dropped=row_list(doubles),
            kept_with_another_code=row_list(others),
        )
    return kept
