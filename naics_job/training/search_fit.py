"""How a search weighs what it knows, and how sure its answers are."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from naics_job.export.ranking import AS_IT_IS, Certainty, SearchCalibration, odds_of_first
from naics_job.model.query_gates import NUM_KINDS
from naics_job.training.calibration import FEWEST, RIDGE, likelihood, logistic

LEXICAL_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
ITEM_WEIGHT = 0.75  # of the distance to the nearest index item against that to the code
SMALLEST_SPREAD = 1e-12
FIRST_ANSWER_RIDGE = 1e-4  # only where all are right, or none, does it matter
ASSUMED = Certainty(((3.0, 0.0),) * NUM_KINDS)
UNCALIBRATED = SearchCalibration((ITEM_WEIGHT,) * NUM_KINDS, ASSUMED, ASSUMED)


@dataclass(frozen=True)
class Searched:
    """Texts whose code is known, beside the codes of the deepest level.

    Attributes:
        code: distances to the codes `[query, code]`.
        item: to the nearest text of each, that of the code itself where it has none.
        cosine: of the TF-IDF vectors of text and code `[query, code]`.
        truth: column of the right code `[query]` int64.
    """

    code: Tensor
    item: Tensor
    cosine: Tensor
    truth: Tensor

    def score(self, lexical_weight: float = 0.0) -> Tensor:
        """What a search ranks by `[query, code]` float64."""
        score = -(self.code + ITEM_WEIGHT * self.item).double()
        return score + lexical_weight * _spread(score) * self.cosine

    def rows(self, part: slice | Tensor) -> "Searched":
        """Some of the texts."""
        return Searched(**{name: value[part] for name, value in vars(self).items()})


def fit_search(validation: Searched, known: Searched, items: Searched) -> SearchCalibration:
    """Weight of shared words, and how sure answers are; with few texts what is there stays.

    Temperatures are those of the highest likelihood (Guo et al. 2017, arXiv:1706.04599), one slope
    for short and long queries: those of the validation families are taken from the texts of their
    codes, which makes the long ones easier than what businesses write, while over both kinds the
    distance to the nearest code tells how far a text is from what the codes say. The weight of
    index items is not fitted, for the same reason.

    Index items of all codes then say how often the first answer to a short query is right at a
    stated probability (Platt scaling): the softmax over a thousand codes says too little where it
    is unsure and too much where it is sure.

    Args:
        validation: texts of the validation families.
        known: those of them that their codes do not show; titles and descriptions stay with the
            codes, whose words would tell too much.
        items: index items that their codes do not show.
    """
    if len(validation.truth) < FEWEST:
        return UNCALIBRATED
    plain = _certainty(validation, items, 0.0)
    if len(known.truth) < FEWEST:
        return replace(UNCALIBRATED, plain=plain, lexical=plain)
    weight = _lexical_weight(known)
    return SearchCalibration(
        UNCALIBRATED.item_weight, plain, _certainty(known, items, weight), weight
    )


def _certainty(texts: Searched, items: Searched, lexical_weight: float) -> Certainty:
    slope = _fit_slope(texts, lexical_weight)
    line = AS_IT_IS
    if len(items.truth) >= FEWEST:
        line = _fit_first_answer(items, lexical_weight, slope)
    return Certainty((slope,) * NUM_KINDS, (line, AS_IT_IS))


def _spread(score: Tensor) -> Tensor:
    """What lies between the best and the worst of each query `[query, 1]`."""
    return score.amax(dim=1, keepdim=True) - score.amin(dim=1, keepdim=True)


def _lexical_weight(texts: Searched) -> float:
    """Of the grid, the weight under which the right codes are likeliest.

    Scores are made as far apart as cosines can be, so that one grid of temperatures fits all.
    """
    unit = _spread(texts.score()).clamp_min(SMALLEST_SPREAD)
    fits = [
        float(likelihood(texts.score(w) / (unit * (1 + w)), texts.truth).mean())
        for w in LEXICAL_WEIGHTS
    ]
    return LEXICAL_WEIGHTS[int(np.argmax(fits))]


def _fit_slope(texts: Searched, lexical_weight: float) -> tuple[float, float]:
    """Slope of the logits `score * exp(slope_0 + slope_1 * nearest)`."""
    score, nearest = texts.score(lexical_weight), texts.code.amin(dim=1).double()
    centre = float(nearest.mean())
    slope = torch.tensor([3.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([slope], max_iter=50, line_search_fn="strong_wolfe")
    shift = (nearest - centre)[:, None]

    def loss() -> Tensor:
        optimizer.zero_grad()
        scale = (slope[0] + slope[1] * shift).exp()
        value = torch.nn.functional.cross_entropy(score * scale, texts.truth)
        value = value + RIDGE * slope[1].square()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    a, b = (float(value) for value in slope.detach())
    return a - b * centre, b


def _fit_first_answer(
    items: Searched, lexical_weight: float, slope: tuple[float, float]
) -> tuple[float, float]:
    """Factor and shift of the log odds of the first answer under which it is right as stated."""
    nearest = items.code.amin(dim=1, keepdim=True).double()
    logits = items.score(lexical_weight) * (slope[0] + slope[1] * nearest).exp()
    first, odds, _ = (torch.from_numpy(each) for each in odds_of_first(logits.cpu().numpy()))
    signs = torch.cat([odds, torch.ones_like(odds)], dim=1)
    weight = logistic(signs, first[:, 0] == items.truth.cpu(), FIRST_ANSWER_RIDGE)
    return float(weight[0]), float(weight[1])
