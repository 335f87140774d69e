"""What is written about each six-digit code: the same texts for every system that is compared."""

import numpy as np

from naics_job.data.labelled import LabelledTexts
from naics_job.data.prepare import NaicsData
from naics_job.evaluation.baselines import code_documents
from naics_job.taxonomy.tree import BoolArray


def known_texts(data: NaicsData, labelled: LabelledTexts | None) -> list[str]:
    """The index items of all codes, code by code, then the user's own texts.

    Index items that are held out as queries are not among them.
    """
    items = [text for each in data.texts["examples"] for text in each]
    return [*items, *(labelled.texts if labelled is not None else [])]


def leaf_documents(
    data: NaicsData, labelled: LabelledTexts | None, hidden: BoolArray | None = None
) -> list[str]:
    """Title, description, index items and the user's own texts of each six-digit code.

    Args:
        data: the codes and their texts.
        labelled: the user's own.
        hidden: which of `known_texts` are left out, `[text]` bool.
    """
    texts, leaves = known_texts(data, labelled), data.taxonomy.six_digit()
    code = np.repeat(np.arange(len(data.taxonomy)), [len(each) for each in data.texts["examples"]])
    if labelled is not None:
        code = np.concatenate([code, labelled.positions])
    known: dict[int, list[str]] = {leaf: [] for leaf in leaves.tolist()}
    shown = np.isin(code, leaves) if hidden is None else np.isin(code, leaves) & ~hidden
    for number in np.flatnonzero(shown):
        known[int(code[number])].append(texts[number])
    titles, descriptions = (
        [" ".join(data.texts[channel][leaf]) for leaf in leaves]
        for channel in ("title", "description")
    )
    return code_documents(titles, descriptions, list(known.values()))


def leaf_column(data: NaicsData, positions: np.ndarray) -> np.ndarray:
    """Numbers of six-digit codes among the six-digit codes, by their positions."""
    return np.searchsorted(data.taxonomy.six_digit(), positions)
