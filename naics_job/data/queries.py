"""Index items that the model never reads: the queries of the text search evaluation."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from naics_job.data.channels import CodeText
from naics_job.taxonomy.codes import level_of, parent_of

MIN_ITEMS = 4  # of a code that gives one away: it keeps most of what describes it
SIX_DIGITS = 6


def hold_out_queries(rows: Sequence[CodeText]) -> list[CodeText]:
    """Move one example of every six-digit code that has enough of them to its `queries`.

    The choice depends on the code and its items alone (smallest hash), not on a seed or on other
    codes, so every run and every slice is asked the same. An item that the model could still read
    stays where it is: one that is also a title or an example elsewhere, or that stands word for
    word in a description of the code or of what is above it.
    """
    known = Counter(_plain(text) for row in rows for text in (row.title, *row.examples))
    descriptions = {row.code: _plain(row.description) for row in rows}
    return [_split(row, known, descriptions) for row in rows]


def _split(row: CodeText, known: Counter[str], descriptions: dict[str, str]) -> CodeText:
    if level_of(row.code) != SIX_DIGITS or len(row.examples) < MIN_ITEMS:
        return row
    read = "\n".join(descriptions.get(code, "") for code in _lineage(row.code))
    unread = [
        item for item in row.examples if known[_plain(item)] == 1 and _plain(item) not in read
    ]
    if not unread:
        return row
    query = min(unread, key=lambda item: hashlib.sha256(f"{row.code}\n{item}".encode()).digest())
    kept = [item for item in row.examples if item != query]
    return replace(row, examples=kept, queries=[query])


def _lineage(code: str) -> list[str]:
    above = parent_of(code)
    return [code] if above is None else [code, *_lineage(above)]


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
