"""What is written about each six-digit code: the same texts for every system that is compared."""

import numpy as np

from naics_job.data.labelled import LabelledTexts
from naics_job.data.prepare import NaicsData
from naics_job.evaluation.baselines import code_documents


def leaf_documents(data: NaicsData, labelled: LabelledTexts | None) -> list[str]:
    """Title, description, index items and the user's own texts of each six-digit code.

    Index items that are held out as queries are not among them.
    """
    leaves = data.taxonomy.six_digit()
    own: dict[int, list[str]] = {}
    if labelled is not None:
        for text, position in zip(labelled.texts, labelled.positions.tolist(), strict=True):
            own.setdefault(position, []).append(text)
    titles, descriptions = (
        [" ".join(data.texts[channel][leaf]) for leaf in leaves]
        for channel in ("title", "description")
    )
    items = [[*data.texts["examples"][leaf], *own.get(int(leaf), [])] for leaf in leaves]
    return code_documents(titles, descriptions, items)


def leaf_column(data: NaicsData, positions: np.ndarray) -> np.ndarray:
    """Numbers of six-digit codes among the six-digit codes, by their positions."""
    return np.searchsorted(data.taxonomy.six_digit(), positions)
