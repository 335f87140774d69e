"""Census tables -> the four channels of each code: what is its own text, and what fills a gap.

A description cell mixes four things: prose, "Illustrative Examples:" with one item per line, the
bare heading of the cross-references, and for sectors and subsectors paragraphs about what is
excluded. A cell may also only point at another code, or say NULL.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from naics_job.data.census import CensusTables
from naics_job.data.sentences import split_sentences
from naics_job.errors import DataError
from naics_job.taxonomy.codes import level_of, parent_of

POINTER = re.compile(r"See industry description for (\d+)\.?")
HEADING = re.compile(r"cross-references\.", re.IGNORECASE)
EXAMPLES = re.compile(r"illustrative examples:?", re.IGNORECASE)
EXCLUSION = re.compile(
    r"\bexcluded from (?:this|the)\b|\bthis (?:sub)?sector excludes\b", re.IGNORECASE
)
NAMED_CODE = re.compile(r"(?<![\d.,$-])(?:\d{2}-\d{2}(?!\d)|\d{2,6}(?![\d-]))")
TAG = re.compile(r"<[^>]*>")  # one sector's cell holds a table in HTML
SUBJECT = re.compile(r"This (?:U\.S\. industry|NAICS industry|industry)\b")
LEVEL_NOUN = {2: "sector", 3: "subsector", 4: "industry group", 5: "NAICS industry"}


@dataclass(frozen=True)
class CodeText:
    """The channels of one code. An empty description or list is a missing channel."""

    code: str
    title: str
    description: str
    description_source: str  # own | pointer | only_child | missing | composed
    examples: list[str]
    excluded: list[str]
    excluded_codes: list[str]
    queries: list[str] = field(default_factory=list)  # held-out examples, see data/queries.py


@dataclass
class _Cell:
    """A description cell taken apart."""

    prose: list[str] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)
    pointer: str | None = None


def census_channels(tables: CensusTables) -> list[CodeText]:
    """The channels of every code, in the order of the code table."""
    cells = {code: _take_apart(text, tables.titles) for code, text in tables.descriptions.items()}
    children: dict[str, list[str]] = {}
    for code in tables.titles:
        if (above := parent_of(code)) is not None:
            children.setdefault(above, []).append(code)
    return [_channels(code, tables, cells, children) for code in tables.titles]


def named_codes(text: str, known: Mapping[str, str]) -> list[str]:
    """Codes of `known` that `text` names, in order, each once."""
    return list(dict.fromkeys(code for code in NAMED_CODE.findall(text) if code in known))


def _channels(
    code: str,
    tables: CensusTables,
    cells: dict[str, _Cell],
    children: dict[str, list[str]],
) -> CodeText:
    description, source = _description(code, cells, children, depth=0)
    # industry codes have cross-reference rows; sectors and subsectors say it in their own text
    excluded = [*tables.cross_references.get(code, []), *cells[code].excluded]
    named = named_codes(" ".join(excluded), tables.titles)
    return CodeText(
        code=code,
        title=tables.titles[code],
        description=description,
        description_source=source,
        examples=tables.index.get(code) or cells[code].examples,
        excluded=[sentence for text in excluded for sentence in split_sentences(text)],
        excluded_codes=sorted(other for other in named if other != code),
    )


def _take_apart(text: str, known: Mapping[str, str]) -> _Cell:
    cell = _Cell()
    in_examples = False
    for line in re.split(r"\r?\n|\r", text):
        paragraph = " ".join(TAG.sub(" ", line).split())
        pointer = POINTER.fullmatch(paragraph)
        if paragraph in ("", "NULL", "The Sector as a Whole"):
            continue
        if pointer:
            cell.pointer = pointer[1]
        elif HEADING.match(paragraph):
            break  # what follows stands in the workbook of cross-references
        elif EXAMPLES.fullmatch(paragraph):
            in_examples = True
        elif in_examples:
            cell.examples.append(paragraph)
        elif EXCLUSION.search(paragraph) and named_codes(paragraph, known):
            cell.excluded.append(paragraph)
        else:
            cell.prose.append(paragraph)
    return cell


def _description(
    code: str, cells: dict[str, _Cell], children: dict[str, list[str]], depth: int
) -> tuple[str, str]:
    """The text and its origin. Several children and no own text: missing, not one child's text."""
    cell = cells[code]
    if cell.prose:
        return " ".join(cell.prose), "own"
    only = children.get(code, [])
    if cell.pointer is not None:
        below, source = cell.pointer, "pointer"
    elif len(only) == 1:
        below, source = only[0], "only_child"
    else:
        return "", "missing"
    if below not in cells or depth > len(LEVEL_NOUN):
        raise DataError(
            f"the description of code {code} points at {below}, which leads nowhere",
            "fetch the workbook of descriptions again, or give the code its own text",
        )
    text, _ = _description(below, cells, children, depth + 1)
    if not text:
        return "", "missing"
    noun = LEVEL_NOUN.get(level_of(code), "industry")
    return SUBJECT.sub(f"This {noun}", text, count=1) if SUBJECT.match(text) else text, source
