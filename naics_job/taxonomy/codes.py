"""NAICS codes as text: sectors, levels, parents, titles, and the bundled code table.

Three sectors cover several two-digit prefixes and are written as a range: 31-33 Manufacturing,
44-45 Retail Trade, 48-49 Transportation and Warehousing. Every code below them belongs to the one
merged sector.
"""

import csv
import re
from importlib.resources import files

from naics_job.errors import DataError

MERGED_SECTORS: dict[str, str] = {
    "31": "31-33",
    "32": "31-33",
    "33": "31-33",
    "44": "44-45",
    "45": "44-45",
    "48": "48-49",
    "49": "48-49",
}
CODE = re.compile(r"\d{2,6}|31-33|44-45|48-49")
# The Census marks titles shared with Canada and Mexico by a superscript T, which lands in the cell
# text right after the last word: "Crop ProductionT".
FOOTNOTE = re.compile(r"(?<=[a-z)\].])\s*T$")
SECTOR_DIGITS = 2


def check_code(code: str) -> str:
    """Return `code`, or raise a `DataError` when it is not two to six digits or a merged sector."""
    if CODE.fullmatch(code) is None:
        raise DataError(
            f"{code!r} is not a NAICS code",
            "expected two to six digits, or one of 31-33, 44-45, 48-49",
        )
    return code


def sector_of(code: str) -> str:
    """The sector of `code`: "311111" -> "31-33", "11" -> "11"."""
    prefix = check_code(code)[:SECTOR_DIGITS]
    return MERGED_SECTORS.get(prefix, prefix)


def level_of(code: str) -> int:
    """Digits of `code`: 2 for a sector ("31-33" too) to 6."""
    return SECTOR_DIGITS if "-" in check_code(code) else len(code)


def parent_of(code: str) -> str | None:
    """The code one level up, None for a sector: "311" -> "31-33", "1111" -> "111"."""
    level = level_of(code)
    if level == SECTOR_DIGITS:
        return None
    return sector_of(code) if level == SECTOR_DIGITS + 1 else code[:-1]


def clean_title(text: str) -> str:
    """A title without repeated or trailing spaces and without the footnote mark T."""
    return FOOTNOTE.sub("", " ".join(text.split()))


def bundled_titles() -> list[tuple[str, str]]:
    """(code, title) of the 2,125 codes of NAICS 2022, parents before children."""
    text = files("naics_job.taxonomy").joinpath("bundled.csv").read_text(encoding="utf-8")
    rows = list(csv.reader(text.splitlines()))
    return [(code, title) for code, title in rows[1:]]
