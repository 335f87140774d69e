"""The channels of the bundled source: plain sentences composed from titles alone.

No text of the Census Bureau is part of the package. A code is described by where it stands, its
examples are the titles of its children, and its neighbours say what it is not. Explicit exclusions
are unknown here, so `excluded_codes` stays empty. Nor are there index items to hold out: `queries`
stays empty too, and text search cannot be scored on this source.
"""

from naics_job.data.channels import CodeText
from naics_job.taxonomy.tree import IntArray, Taxonomy

MAX_ABOVE = 2  # ancestors that a description names: the nearest ones
MAX_BESIDE = 6  # siblings that the exclusions name: the nearest in the order of codes

KIND = {2: "Sector", 3: "Subsector", 4: "Industry group", 5: "Industry", 6: "National industry"}


def composed_channels(taxonomy: Taxonomy) -> list[CodeText]:
    """The channels of every code in taxonomy order."""
    children: dict[int, list[int]] = {}
    for position, above in enumerate(taxonomy.parent.tolist()):
        children.setdefault(above, []).append(position)
    return [_channels(taxonomy, position, children) for position in range(len(taxonomy))]


def _channels(taxonomy: Taxonomy, position: int, children: dict[int, list[int]]) -> CodeText:
    title, code = taxonomy.titles[position], taxonomy.codes[position]
    family = children[int(taxonomy.parent[position])]
    beside = [taxonomy.titles[other] for other in _beside(family, position)]
    below = [taxonomy.titles[child] for child in children.get(position, [])]
    return CodeText(
        code=code,
        title=title,
        description=_description(taxonomy, position, below),
        description_source="composed",
        examples=[name for name in below if name != title],
        excluded=[f"Not {'; '.join(beside)}."] if beside else [],
        excluded_codes=[],
    )


def _description(taxonomy: Taxonomy, position: int, below: list[str]) -> str:
    """Where the code stands; the title is a channel of its own and is not said again."""
    kind, title = KIND[int(taxonomy.level[position])], taxonomy.titles[position]
    above = _titles_above(taxonomy, taxonomy.ancestors[position, 1:], title)[:MAX_ABOVE]
    sentences = [f"{kind} within {'; '.join(above)}." if above else f"{kind}."]
    if len(below) > 1:
        sentences.append(f"It is divided into {len(below)} parts.")
    return " ".join(sentences)


def _beside(family: list[int], position: int) -> list[int]:
    """The siblings whose codes are nearest, in the order of codes."""
    place = family.index(position)
    near = sorted(range(len(family)), key=lambda other: (abs(other - place), other))
    return [family[other] for other in sorted(near[1 : MAX_BESIDE + 1])]


def _titles_above(taxonomy: Taxonomy, ancestors: IntArray, title: str) -> list[str]:
    """Titles of the ancestors, nearest first, each once; a code often has its parent's title."""
    names = [taxonomy.titles[row] for row in ancestors.tolist() if row >= 0][::-1]
    return [name for name in dict.fromkeys(names) if name != title]
