"""Which texts may be trained on: none that repeats or points at a held-out code.

Holding a family out is not enough. The codes above it that have no other child carry the same title
and description, and the exclusions of other codes name it by number and title.

Of a trained code these are masked, all compared without case, repeated spaces and the
punctuation at the end:

- a title that equals a held-out title;
- a description that equals a held-out one below it but for its subject ("This industry
  group"), or at least half of whose sentences name a held-out code. One sentence of many does
  not take the text of a sector away; it is False in `sentences`. Codes that stand side by side
  may have equal descriptions, which then only say where they stand;
- an example that equals an example or the title of a held-out code;
- an exclusion that names a held-out code.

A sentence names a code by its number or by its title, word for word. A code counts as held out
here also when all the codes at the bottom of its branch are. Titles of one word are common
words: they count in exclusions only, and as written. Numbers are those of NAICS.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from naics_job.data.channels import SUBJECT, named_codes
from naics_job.taxonomy.tree import BoolArray, IntArray, Taxonomy

WORD = re.compile(r"\w+(?:['\u2019.&-]\w+)*")
NOUN = re.compile(rf"{SUBJECT.pattern}(?: group\b)?|This (?:sub)?sector\b")
END_MARKS = " .,;:!?"

Segments = Sequence[Sequence[str]]  # per code the texts of one channel


@dataclass(frozen=True)
class TrainingMask:
    """True: may be used in training. Everything of a held-out code is False.

    A flat array goes code by code in the order of positions: the segments of a code are the range
    `offsets[channel][code] .. offsets[channel][code + 1] - 1`. A trained code without a description
    has True there.

    Attributes:
        title: `[code]`.
        description: `[code]`, the description as a whole.
        sentences: `[segment]` of the descriptions: also False for the single sentence that names a
            held-out code in a description that is used as a whole.
        examples: `[segment]`.
        excluded: `[segment]`.
        offsets: `[code + 1]` by channel: description, examples, excluded.
        title_kept: `[code]`, the title is True although it repeats a held-out one, because the code
            would have no title, description or example otherwise.
    """

    title: BoolArray
    description: BoolArray
    sentences: BoolArray
    examples: BoolArray
    excluded: BoolArray
    offsets: dict[str, IntArray]
    title_kept: BoolArray


def training_mask(
    taxonomy: Taxonomy, texts: dict[str, list[list[str]]], held: BoolArray
) -> TrainingMask:
    """The texts that training may use when the codes `held` `[code]` are held out.

    The rules stand at the top of this module. A trained code that would lose its title, its
    description and all its examples keeps its title, so that none is without a text: `title_kept`.
    """
    titles = [segments[0] if segments else "" for segments in texts["title"]]
    hidden = held | _nothing_trained_below(taxonomy, held)
    names = _Names([titles[row] for row in np.flatnonzero(held)], _codes(taxonomy, hidden))
    offsets = {name: _offsets(texts[name]) for name in ("description", "examples", "excluded")}
    trained = {name: ~np.repeat(held, np.diff(offsets[name])) for name in offsets}

    title = ~held & ~_is_in([_plain(text) for text in titles], _of(held, texts["title"]))
    named = _flat(texts["description"], names.in_description)  # [segment]
    repeats = _repeats_below(taxonomy, texts["description"], held)
    description = ~held & ~repeats & ~_mostly(named, offsets["description"])
    told = _of(held, texts["examples"]) | _of(held, texts["title"])
    examples = trained["examples"] & ~_flat(texts["examples"], lambda text: _plain(text) in told)
    excluded = trained["excluded"] & ~_flat(texts["excluded"], names.in_exclusion)

    has_text = description & (np.diff(offsets["description"]) > 0)
    has_text |= _sums(examples, offsets["examples"]) > 0
    kept = ~held & ~title & ~has_text
    return TrainingMask(
        title=title | kept,
        description=description,
        sentences=~named & np.repeat(description, np.diff(offsets["description"])),
        examples=examples,
        excluded=excluded,
        offsets=offsets,
        title_kept=kept,
    )


class _Names:
    """Titles and numbers of held-out codes, to be found in running text.

    Args:
        titles: of held-out codes.
        codes: number -> title; only the numbers are used.
    """

    def __init__(self, titles: Iterable[str], codes: dict[str, str]) -> None:
        self.codes = codes
        self.single: set[str] = set()
        self.phrases: dict[tuple[str, ...], set[tuple[str, ...]]] = {}  # by their first two words
        for title in titles:
            words = _words(title.casefold())
            if len(words) > 1:
                self.phrases.setdefault(words[:2], set()).add(words)
            else:
                self.single.update(_words(title))

    def in_description(self, text: str) -> bool:
        """Whether `text` has a number, or a title of two words or more."""
        if named_codes(text, self.codes):
            return True
        words = _words(text.casefold())
        return any(
            words[first : first + len(phrase)] == phrase
            for first in range(len(words) - 1)
            for phrase in self.phrases.get(words[first : first + 2], ())
        )

    def in_exclusion(self, text: str) -> bool:
        """Whether `text` has a number or a title."""
        return not self.single.isdisjoint(_words(text)) or self.in_description(text)


def _nothing_trained_below(taxonomy: Taxonomy, held: BoolArray) -> BoolArray:
    """`[code]`: whether all codes at the bottom of the branch are held out."""
    rows = np.arange(len(taxonomy))
    bottom = taxonomy.subtree_end == rows + 1
    trained = np.concatenate([[0], np.cumsum(bottom & ~held)])  # before each position
    none_left: BoolArray = trained[taxonomy.subtree_end] == trained[rows]
    return none_left


def _codes(taxonomy: Taxonomy, chosen: BoolArray) -> dict[str, str]:
    return {taxonomy.codes[row]: taxonomy.titles[row] for row in np.flatnonzero(chosen)}


def _words(text: str) -> tuple[str, ...]:
    return tuple(WORD.findall(text))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(END_MARKS)


def _body(sentences: Sequence[str]) -> str:
    """A description without the noun for the level of its code."""
    text = " ".join(" ".join(sentences).split())
    return _plain(NOUN.sub("", text, count=1) if NOUN.match(text) else text)


def _repeats_below(taxonomy: Taxonomy, descriptions: Segments, held: BoolArray) -> BoolArray:
    """`[code]`: whether the description is that of a held-out code below it."""
    bodies = [_body(sentences) for sentences in descriptions]
    repeats = np.zeros(len(taxonomy), dtype=bool)
    for row in np.flatnonzero(held).tolist():
        above = taxonomy.ancestors[row, 1 : int(taxonomy.depth[row])].tolist()
        for other in above if bodies[row] else ():
            repeats[other] |= bodies[other] == bodies[row]
    return repeats


def _of(held: BoolArray, channel: Segments) -> set[str]:
    return {_plain(text) for row in np.flatnonzero(held).tolist() for text in channel[row]}


def _is_in(texts: Sequence[str], known: set[str]) -> BoolArray:
    return np.array([text in known for text in texts], dtype=bool)


def _flat(channel: Segments, test: Callable[[str], bool]) -> BoolArray:
    """`[segment]`: `test` of every segment."""
    return np.array([test(text) for segments in channel for text in segments], dtype=bool)


def _offsets(channel: Segments) -> IntArray:
    return np.concatenate([[0], np.cumsum([len(segments) for segments in channel])]).astype(int)


def _sums(flat: BoolArray, offsets: IntArray) -> IntArray:
    """How many of each code's segments are True: `[code]`."""
    before = np.concatenate([[0], np.cumsum(flat)])
    counts: IntArray = before[offsets[1:]] - before[offsets[:-1]]
    return counts


def _mostly(flat: BoolArray, offsets: IntArray) -> BoolArray:
    """`[code]`: whether at least half of its segments, and at least one, are True."""
    counts = _sums(flat, offsets)
    result: BoolArray = (counts > 0) & (2 * counts >= np.diff(offsets))
    return result
