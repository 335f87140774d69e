"""What queries trust: planted weights are found, few texts say nothing."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import normalize

from naics_job.data.query_pool import SINGLE
from naics_job.evaluation.report import evaluate
from naics_job.geometry.lorentz import pairwise_distance
from naics_job.model.query_gates import QueryGates
from naics_job.taxonomy.tree import Taxonomy
from naics_job.training import calibration
from naics_job.training.build import Job
from naics_job.training.calibration import (
    FEWEST,
    NUM_TEXTS,
    RIDGE,
    Asked,
    calibrate,
    fit_gates,
    fit_lengths,
    logistic,
    validation_draws,
    validation_texts,
)

MakeJob = Callable[..., Job]
NUM_CODES, TEMPERATURE = 40, 0.03
HIDDEN = ("item", "labelled")  # kinds that codes show and are not shown when asked


class Gated(torch.nn.Module):
    """An embedder as far as `fit_gates` reads one."""

    def __init__(self) -> None:
        super().__init__()
        self.query_gates = QueryGates()


def chosen(score: Tensor, generator: torch.Generator) -> Tensor:
    """The right code of each text, drawn from the softmax of `score`."""
    return torch.multinomial((score / TEMPERATURE).softmax(dim=1), 1, generator=generator)[:, 0]


def asked(word: tuple[float, float], tree: tuple[float, float], rows: int = 4000) -> Asked:
    """Texts whose right codes follow planted weights by kind; half of them are sure."""
    generator = torch.Generator().manual_seed(0)

    def products() -> Tensor:
        return 0.2 * torch.randn(rows, NUM_CODES, generator=generator)

    text, words = products(), products()
    long = torch.arange(rows) % 2 == 1
    sure = torch.rand(rows, generator=generator) < 0.5
    own = torch.arange(rows) % 4 > 1  # half of each kind
    place = products()
    kind = long.long()
    score = text + torch.tensor(word)[kind, None] * words
    score = score + (torch.tensor(tree)[kind] * sure)[:, None] * place
    signs = torch.stack([2.0 * sure, torch.rand(rows, generator=generator), torch.ones(rows)], 1)
    return Asked(text, words, place, signs, long, own, chosen(score, generator))


def fitted(of: Asked) -> QueryGates:
    embedder = Gated()
    fit_gates(embedder, of)  # type: ignore[arg-type]
    return embedder.query_gates


def test_planted_weights_are_found() -> None:
    gates = fitted(asked((0.25, 1.0), (0.4, 0.4)))
    assert gates.word.tolist() == [0.25, 1.0]
    assert gates.tree.min() >= 0.2
    sure = (torch.tensor([2.0, 0.5, 1.0]) @ gates.confidence_weight).sigmoid()
    unsure = (torch.tensor([0.0, 0.5, 1.0]) @ gates.confidence_weight).sigmoid()
    assert sure > unsure + 0.05


def test_long_texts_show_their_place_if_those_of_the_user_say_so() -> None:
    mixed = asked((0.25, 1.0), (0.4, 0.4))
    foreign = replace(mixed, own=torch.zeros_like(mixed.own))
    gates = fitted(foreign)
    assert gates.tree[0] >= 0.2
    assert gates.tree[1] == 0
    assert gates.word.tolist() == [0.25, 1.0]
    other = asked((0.25, 1.0), (0.4, 0.0))  # what is not the user's has no say
    own, long = mixed.own[:, None], mixed.long[:, None]
    misled = replace(mixed, tree=torch.where(own | ~long, other.tree, mixed.tree))
    misled = replace(misled, truth=torch.where(mixed.own | ~mixed.long, other.truth, mixed.truth))
    assert fitted(misled).tree[1] < 0.1


def test_what_says_nothing_gets_no_weight() -> None:
    gates = fitted(asked((0.0, 0.0), (0.0, 0.0)))
    assert not gates.word.any()
    assert not gates.tree.any()


def test_few_texts_leave_the_gates_as_they_are() -> None:
    embedder = Gated()
    embedder.query_gates.word.fill_(0.33)
    fit_gates(embedder, asked((1.0, 1.0), (0.4, 0.4), FEWEST - 1))  # type: ignore[arg-type]
    assert embedder.query_gates.word.tolist() == pytest.approx([0.33, 0.33])
    assert not embedder.query_gates.confidence_weight.any()
    many = asked((1.0, 1.0), (0.4, 0.4), 2000)
    rows = ~many.long | (torch.arange(2000) < FEWEST)  # nearly all are short
    some = Asked(**{name: value[rows] for name, value in vars(many).items()})
    fit_gates(embedder, some)  # type: ignore[arg-type]
    assert embedder.query_gates.word[0] == 1.0
    assert embedder.query_gates.word[1].item() == pytest.approx(0.33)


def test_the_simplest_within_a_standard_error_is_taken() -> None:
    generator = torch.Generator().manual_seed(0)
    best = torch.randn(400, generator=generator)
    apart = torch.randn(400, generator=generator)
    apart = apart - apart.mean()  # the error of its mean is 0.05
    fits = torch.stack([best - 0.2 + apart, best - 0.03 + apart, best, best - 0.01 + apart])
    assert calibration._simplest(fits) == 1
    assert calibration._simplest(fits[[0, 2]]) == 1
    assert calibration._simplest(fits[[2, 1]]) == 0


def test_the_logistic_regression_is_that_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    signs = torch.randn(300, 3, generator=generator)
    signs[:, 2] = 1
    chance = (signs @ torch.tensor([1.5, -0.7, 0.4])).sigmoid()
    found = (torch.rand(300, generator=generator) < chance).float()
    reference = LogisticRegression(C=1 / (300 * RIDGE), fit_intercept=False, tol=1e-10)
    reference.fit(signs.numpy(), found.numpy())
    weights = logistic(signs, found)
    np.testing.assert_allclose(weights, reference.coef_[0], atol=1e-4)
    for same in (torch.ones(300), torch.zeros(300)):  # all found, or none
        assert bool(torch.isfinite(logistic(signs, same)).all())


def test_the_texts_are_of_validation_families_and_always_the_same(make_job: MakeJob) -> None:
    job = make_job("data_loader.queries.boilerplate=1")  # training only: what is asked is plain
    module = job.module.eval()
    pool = module.step_encoder.pool
    trained = job.module.queries.draw(validation_draws(1)).texts
    assert (trained >= pool.first_boilerplate).any()
    found = validation_texts(module, None)
    assert found is not None
    of, queries, draw, codes = found
    assert draw.texts.max() < pool.first_boilerplate
    again = validation_texts(module, None)
    assert again is not None
    np.testing.assert_array_equal(again[2].texts, draw.texts)
    assert len(draw) == len(of.truth) == len(queries.depth) <= NUM_TEXTS
    leaves = job.inputs.data.taxonomy.six_digit()
    validation = np.intersect1d(leaves, job.datamodule.splits.validation)
    assert set(draw.answers) == set(validation)
    np.testing.assert_array_equal(leaves[of.truth], draw.answers)
    whole = module.step_encoder.everyone()
    asked_codes = torch.zeros(len(whole.text), dtype=torch.bool)
    kinds = pool.kinds[draw.texts[draw.texts >= 0]]
    hidden = draw.texts[draw.texts >= 0][np.isin(kinds, [SINGLE.index(k) for k in HIDDEN])]
    assert len(hidden)
    asked_codes[pool.answers[hidden]] = True
    same = (whole.text - codes.text).abs().amax(dim=1) < 1e-6
    assert not same[asked_codes].any()  # the codes do not show what is asked
    assert same[~asked_codes].all()
    assert validation_draws(1).uniform("x", 2).shape == (NUM_TEXTS, 2)


def test_what_is_fitted_is_what_ranks(make_job: MakeJob) -> None:
    """The inner products that weights are fitted on give the order of the distances."""
    module = make_job(awake=True).module.eval()
    gates = module.embedder.query_gates
    gates.word.copy_(torch.tensor([0.5, 1.5]))
    gates.tree.copy_(torch.tensor([0.4, 0.2]))
    gates.confidence_weight.copy_(torch.tensor([0.3, -0.2, 0.1]))
    found = validation_texts(module, None)
    assert found is not None
    of, queries, _, codes = found
    with torch.no_grad():
        points = module.embedder(queries).points
    leaves = torch.from_numpy(module.taxonomy.six_digit())
    distance = pairwise_distance(points.double(), codes.points[leaves].double(), codes.curvature)
    kind = of.long.long()
    confidence = (of.signs @ gates.confidence_weight).sigmoid()
    score = of.text + gates.word[kind, None] * of.words
    score = score + (gates.tree[kind] * confidence)[:, None] * of.tree
    ranked = score.gather(1, distance.argsort(dim=1))
    assert ranked.diff(dim=1).max() < 1e-5
    assert (ranked[:, 0] - ranked[:, -1]).min() > 0.01


def test_calibrating_keeps_the_mode_and_sets_the_gates(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = make_job().module.train()
    modes: list[bool] = []

    def fit(embedder: torch.nn.Module, of: Asked) -> None:
        modes.append(embedder.training)

    monkeypatch.setattr(calibration, "fit_gates", fit)
    calibrate(module)
    assert modes == [False]
    assert module.training
    assert module.embedder.training
    nothing = make_job("data_loader.val_split=0").module
    calibrate(nothing)
    assert modes == [False]  # no validation families, nothing to fit


def kin(taxonomy: Taxonomy, dim: int, seed: int) -> Tensor:
    """Directions `[code, dim]` that are the nearer the more ancestors two codes share."""
    random = torch.randn(len(taxonomy), dim, generator=torch.Generator().manual_seed(seed))
    found = random.clone()
    for code, above in enumerate(taxonomy.parent.tolist()):
        if above >= 0:
            found[code] += 1.5 * found[above]
    return normalize(found, dim=1)


@pytest.mark.parametrize("helps", ["text", "words", "tree"])
def test_lengths_are_those_that_help_other_families_and_cost_the_own_nothing(
    make_job: MakeJob, helps: str
) -> None:
    job = make_job(awake=True)
    module, splits = job.module.eval(), job.datamodule.splits
    embedder, taxonomy = module.embedder, module.taxonomy
    with torch.no_grad():
        codes = module.step_encoder.everyone()
    planted = {
        name: kin(taxonomy, getattr(codes, name).shape[1], 0)
        if name == helps
        else normalize(torch.randn(getattr(codes, name).shape), dim=1)
        for name in ("text", "words", "tree")
    }
    codes = replace(codes, **planted)

    def scores() -> tuple[float, float]:
        points = embedder.code_points(module.step_encoder.depth, *planted.values()).detach()
        found = [
            evaluate(points, taxonomy, rows, embedder.curvature_value()).heldout["ndcg@10"]
            for rows in (splits.train, splits.validation)
        ]
        return found[0], found[1]

    own, other = scores()
    fit_lengths(module, codes, splits)
    fitted = embedder.length_factors.tolist()
    if helps == "tree":
        assert fitted == [1, 1]
    else:
        assert fitted[("text", "words").index(helps)] > 1
        assert scores()[0] >= own
        assert scores()[1] > other
    fit_lengths(module, codes, splits)
    assert embedder.length_factors.tolist() == fitted
    fit_lengths(module, codes, replace(splits, validation=splits.validation[:0]))
    assert embedder.length_factors.tolist() == [1, 1]
