"""Colours that people with a colour vision deficiency can tell apart.

The palette of Okabe and Ito (2008, "Color Universal Design"), without its black, which a dark
theme hides. Names that are not known beforehand are coloured by value on Grafana's scale from
yellow to blue.
"""

from collections.abc import Iterator, Sequence

from naics_job.curriculum.schedule import Phase

ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
OKABE_ITO = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, YELLOW)

GOOD, WARNING, BAD = GREEN, ORANGE, VERMILION

PHASES = {
    int(phase): (f"{phase:d} {phase.title}", colour)
    for phase, colour in zip(Phase, (SKY, ORANGE, PURPLE), strict=True)
}
MAX_RANK = 63  # of those with a colour of their own; one palette is seven ranks


def coloured(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Names of series with their colours, in order, from the start again after the last colour."""
    for number, name in enumerate(names):
        yield name, OKABE_ITO[number % len(OKABE_ITO)]


def rank_patterns() -> Iterator[tuple[str, str]]:
    """Regular expressions, as Grafana writes them, for names with a rank, and their colours."""
    for number, colour in enumerate(OKABE_ITO):
        ranks = "|".join(str(rank) for rank in range(number, MAX_RANK + 1, len(OKABE_ITO)))
        yield f"/rank ({ranks})$/", colour
