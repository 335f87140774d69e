"""Index items that the model never reads: the queries of the text search evaluation."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from naics_job.data.channels import CodeText
from naics_job.taxonomy.codes import level_of

MIN_ITEMS = 4  # of a code that gives one away: it keeps most of what describes it
SIX_DIGITS = 6


def hold_out_queries(rows: Sequence[CodeText]) -> list[CodeText]:
    """Move one example of every six-digit code that has enough of them to its `queries`.

    The choice depends on the texts alone (smallest hash), not on a seed, so every run is asked the
    same. An item that the model could still read stays where it is: one that stands, word for word,
    anywhere else in any text of any code.
    """
    corpus = "\n".join(_plain(text) for row in rows for text in _texts(row))
    return [_split(row, corpus) for row in rows]


def _split(row: CodeText, corpus: str) -> CodeText:
    if level_of(row.code) != SIX_DIGITS or len(row.examples) < MIN_ITEMS:
        return row
    drawn = sorted(
        row.examples, key=lambda item: hashlib.sha256(f"{row.code}\n{item}".encode()).digest()
    )
    query = next((item for item in drawn if corpus.count(_plain(item)) == 1), None)  # its own line
    if query is None:
        return row
    kept = [item for item in row.examples if item != query]
    return replace(row, examples=kept, queries=[query])


def _texts(row: CodeText) -> list[str]:
    return [row.title, row.description, *row.examples, *row.excluded]


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
