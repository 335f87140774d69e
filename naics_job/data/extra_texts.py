"""The texts that training asks besides titles and index items, and which of them it may."""

import numpy as np

from naics_job.data.labelled import LabelledTexts
from naics_job.data.labelled_queries import cross_references, description_sentences
from naics_job.data.masks import TrainingMask
from naics_job.data.prepare import NaicsData
from naics_job.data.query_pool import ExtraText
from naics_job.taxonomy.tree import BoolArray


def extra_texts(data: NaicsData, labelled: LabelledTexts | None) -> list[ExtraText]:
    """Sentences of descriptions, cross-references, then the user's own texts."""
    sentences = [
        ExtraText(text, "sentence", position)
        for position, _, text in description_sentences(data.texts)
    ]
    references = [
        ExtraText(each.text, "cross_reference", each.answer, each.excluder)
        for each in cross_references(data.taxonomy, data.texts)
    ]
    own = []
    if labelled is not None:
        rows = zip(labelled.texts, labelled.positions, labelled.weights, strict=True)
        own = [ExtraText(text, "labelled", int(at), weight=float(w)) for text, at, w in rows]
    return [*sentences, *references, *own]


def usable_extra(data: NaicsData, mask: TrainingMask, labelled: LabelledTexts | None) -> BoolArray:
    """Which of `extra_texts` say nothing about a held-out code, `[text]`."""
    starts, excluded = mask.offsets["description"], mask.offsets["excluded"]
    usable = [
        bool(mask.sentences[starts[position] + number])
        for position, number, _ in description_sentences(data.texts)
    ]
    usable += [
        bool(mask.excluded[excluded[each.excluder] + each.segment])
        for each in cross_references(data.taxonomy, data.texts)
    ]
    usable += [True] * (len(labelled) if labelled is not None else 0)
    return np.array(usable, dtype=bool)
