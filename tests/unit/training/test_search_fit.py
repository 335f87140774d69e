"""What a search weighs and how sure its answers are: planted values are found."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from naics_job.evaluation.text_scores import calibration_error
from naics_job.export.ranking import AS_IT_IS
from naics_job.training.calibration import FEWEST
from naics_job.training.search_fit import ITEM_WEIGHT, UNCALIBRATED, Searched, fit_search

NUM_CODES = 40


def drawn(logits: Tensor, seed: int) -> Tensor:
    """The right code of each text, drawn from the softmax of `logits`."""
    generator = torch.Generator().manual_seed(seed)
    return torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]


def searched(rows: int, slope: float) -> Searched:
    """Distances to codes and their items, and right codes that follow the planted slope."""
    generator = torch.Generator().manual_seed(1)
    code = 2.0 + 0.2 * torch.randn(rows, NUM_CODES, generator=generator)
    item = 2.0 + 0.2 * torch.randn(rows, NUM_CODES, generator=generator)
    cosine = torch.rand(code.shape, generator=generator)
    return Searched(code, item, cosine, drawn(-(code + ITEM_WEIGHT * item) * slope, 1))


def none(texts: Searched) -> Searched:
    return texts.rows(slice(0))


def logits_of(texts: Searched, slope: tuple[float, float], lexical_weight: float = 0.0) -> Tensor:
    nearest = texts.code.amin(dim=1, keepdim=True)
    return texts.score(lexical_weight) * (slope[0] + slope[1] * nearest).exp()


def error_of(logits: Tensor, truth: Tensor) -> float:
    """Calibration error of the first answers."""
    sure, answer = logits.softmax(dim=1).max(dim=1)
    return calibration_error(sure.numpy(), (answer == truth).numpy())


def test_probabilities_of_a_search_are_calibrated() -> None:
    texts = searched(6000, slope=12.0)
    some, rest = texts.rows(slice(4000)), texts.rows(slice(4000, None))
    found = fit_search(some, none(some), none(some))
    assert found.item_weight == (ITEM_WEIGHT, ITEM_WEIGHT)
    slope = found.plain.slope[0]
    assert found.plain.slope == (slope, slope)
    assert found.plain.first_answer == (AS_IT_IS, AS_IT_IS)
    assert found.lexical == found.plain
    assert error_of(logits_of(rest, slope), rest.truth) < 0.04
    scale = (slope[0] + slope[1] * rest.code.amin(dim=1)).exp()
    assert scale.mean().item() == pytest.approx(12.0, rel=0.1)
    assert error_of(rest.score(), rest.truth) > 0.1


def test_few_texts_are_no_calibration_of_a_search() -> None:
    texts = searched(FEWEST, 12.0)
    few = texts.rows(slice(1, None))
    assert fit_search(few, texts, texts) == UNCALIBRATED
    found = fit_search(texts, few, few)
    assert found == fit_search(texts, none(texts), none(texts))
    assert found.lexical_weight == UNCALIBRATED.lexical_weight
    assert found.plain == found.lexical != UNCALIBRATED.plain


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.5])
def test_shared_words_weigh_what_the_texts_they_were_planted_in_say(weight: float) -> None:
    texts = searched(4000, slope=12.0)
    spread = texts.score().amax(dim=1, keepdim=True) - texts.score().amin(dim=1, keepdim=True)
    logits = texts.score(weight) / spread / 0.03
    known = replace(texts, truth=drawn(logits, 2)).rows(torch.arange(4000) % 2 == 0)
    found = fit_search(texts, known, none(texts))
    assert found.lexical_weight == weight
    assert found.plain == fit_search(texts, none(texts), none(texts)).plain
    assert error_of(logits_of(known, found.lexical.slope[0], weight), known.truth) < 0.05


@pytest.mark.parametrize(("factor", "shift"), [(0.6, 0.3), (1.0, 0.0), (1.4, -0.5)])
def test_items_say_how_often_the_first_answer_to_a_short_query_is_right(
    factor: float, shift: float
) -> None:
    texts = searched(4000, slope=12.0)
    logits = logits_of(texts, fit_search(texts, none(texts), none(texts)).plain.slope[0])
    first, answer = logits.max(dim=1)
    odds = first - logits.scatter(1, answer[:, None], -torch.inf).logsumexp(dim=1)
    chance = (factor * odds + shift).sigmoid()
    right = torch.rand(len(odds), generator=torch.Generator().manual_seed(3)) < chance
    items = replace(texts, truth=torch.where(right, answer, (answer + 1) % NUM_CODES))
    found = fit_search(texts, texts, items)
    np.testing.assert_allclose(found.plain.first_answer[0], (factor, shift), atol=0.12)
    assert found.plain.first_answer[1] == AS_IT_IS  # of long queries index items say nothing
    assert found.plain.slope == fit_search(texts, texts, none(texts)).plain.slope
    assert found.lexical_weight == 0.0  # the words are noise, so both are one
    np.testing.assert_allclose(found.lexical.first_answer[0], found.plain.first_answer[0])
