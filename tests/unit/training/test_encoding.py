"""A step: the same in any number of pieces, what codes show of what is asked, its targets."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from naics_job.curriculum.schedule import PhaseState
from naics_job.data.batch import CodeBatch, code_batch
from naics_job.data.query_pool import QueryDraw
from naics_job.data.sampler import RowDraws
from naics_job.geometry.lorentz import pairwise_distance
from naics_job.loss.objective import LossInputs
from naics_job.model.features import CodeFeatures, text_direction, unit
from naics_job.model.noise import StepNoise
from naics_job.training.build import Job
from naics_job.training.encoding import EncodedStep, query_inputs
from naics_job.training.inputs import loss_inputs

MakeJob = Callable[..., Job]
NUM_TEXTS = 32
SEED = 42


class Step:
    """One step of a job, with its bank filled as training leaves it at the start of an epoch."""

    def __init__(self, job: Job, phase_step: int = 0, num_texts: int = NUM_TEXTS) -> None:
        self.job, self.module = job, job.module
        module = job.module
        everyone = module.embed_all()
        module.bank.update(torch.arange(len(module.taxonomy)), everyone.points, everyone.gates)
        module.train()
        self.batch = job.datamodule.dataset[0, 0]
        self.state: PhaseState = module.curriculum.at(phase_step)
        self.asked = module.queries.draw(RowDraws(SEED, 0, 0, 0, num_texts))
        negatives = module.planner.choose(self.batch, self.state)
        self.codes: CodeBatch = code_batch(self.batch, negatives, self.asked.answers)

    def encode(self, adapters: bool, asked: QueryDraw | None = None) -> EncodedStep:
        noise = StepNoise.of(SEED, 0, 0)
        chosen = self.asked if asked is None else asked
        return self.module.step_encoder.step(self.codes, chosen, adapters, noise)

    def inputs(self, encoded: EncodedStep) -> LossInputs:
        module = self.module
        rest: Any = (module.planner, self.state, module.taxonomy, module.step_encoder.code_text)
        return loss_inputs(encoded, self.asked, self.codes, *rest)

    def gradients(self, parts: int) -> tuple[float, dict[str, Tensor]]:
        """Loss and gradients of all parameters with the texts in `parts` pieces."""
        module = self.module
        module.zero_grad()
        module.step_encoder.parts = parts
        total = module.objective(self.inputs(self.encode(adapters=True)))["total"]
        total.backward()
        named = module.named_parameters()
        return float(total.detach()), {n: p.grad.clone() for n, p in named if p.grad is not None}


def test_a_step_is_the_same_in_any_number_of_pieces(make_job: MakeJob) -> None:
    """Adapters on, every dropout on."""
    dropout = ("model.feature_dropout=0.1", "model.moe.dropout=0.3", "model.lora.dropout=0.2")
    step = Step(make_job(*dropout, awake=True))
    loss, whole = step.gradients(1)
    lora = [name for name in whole if ".lora_" in name]
    assert len(lora) == 8
    assert all(whole[name].abs().max() > 0 for name in lora)
    for parts in (2, 8):
        again, found = step.gradients(parts)
        assert again == pytest.approx(loss, rel=1e-5)
        assert set(found) == set(whole)
        for name, grad in whole.items():
            scale = float(grad.abs().max())
            torch.testing.assert_close(found[name], grad, rtol=1e-5, atol=1e-5 * max(1.0, scale))


@pytest.mark.parametrize("curvature", [0.01, 100.0])
def test_every_curvature_trains_alike(make_job: MakeJob, curvature: float) -> None:
    def terms(value: float) -> dict[str, float]:
        step = Step(make_job(f"loss.curvature={value}", "loss.code_contrastive_weight=0.1"))
        found = step.module.objective(step.inputs(step.encode(adapters=False)))
        return {name: float(term.detach()) for name, term in found.items()}

    assert terms(curvature) == pytest.approx(terms(1.0), rel=2e-3, abs=2e-4)


def test_resting_adapters_cost_nothing(make_job: MakeJob) -> None:
    step = Step(make_job())
    encoded = step.encode(adapters=False)
    assert step.module.step_encoder.step_tokens == 0
    assert torch.equal(encoded.queries.text, encoded.frozen_queries)
    again = step.encode(adapters=True)
    tokens = step.module.step_encoder.pool.tokens(step.asked)
    assert step.module.step_encoder.step_tokens == tokens.lengths.sum()
    assert step.module.step_encoder.step_codes == len(step.codes.codes)
    features = step.module.encoder(tokens, StepNoise.of(SEED, 0, 0))
    torch.testing.assert_close(again.queries.text, unit(features), rtol=1e-4, atol=1e-5)


def test_single_texts_have_the_features_of_the_frozen_encoder(make_job: MakeJob) -> None:
    job = make_job()
    encoder, pool = job.module.step_encoder, job.module.step_encoder.pool
    numbers = np.flatnonzero(pool.lengths > 0)[::7]
    draw = QueryDraw(numbers[:, None], pool.answers[numbers], pool.excluders[numbers])
    asked = encoder.ask(draw)
    with torch.no_grad():
        expected = unit(job.module.encoder.eval()(pool.tokens(draw)))
    torch.testing.assert_close(asked.text, expected, rtol=1e-4, atol=1e-5)
    assert not asked.depth.any()


def test_short_queries_are_titles_and_long_ones_descriptions() -> None:
    features, words = torch.randn(3, 8), torch.randn(3, 2)
    found = query_inputs(features, words, np.array([3, 8, 9]), title_tokens=8)
    assert found.present.tolist() == [
        [True, False, False, False],
        [True, False, False, False],
        [False, True, False, False],
    ]
    assert found.long.tolist() == [False, False, True]
    assert torch.equal(found.features.sum(1), features)
    assert not found.features[~found.present].any()
    assert torch.equal(found.text, features)


def test_an_item_that_is_asked_is_hidden_from_its_code(make_job: MakeJob) -> None:
    step = Step(make_job("model.example_dropout=0.0"))
    encoder, pool = step.module.step_encoder, step.module.step_encoder.pool
    items = slice(pool.num_titles, pool.num_titles + pool.num_items)
    code = next(c for c in step.codes.codes.tolist() if (pool.answers[items] == c).sum() > 1)
    own = np.flatnonzero(pool.answers[items] == code)
    row = step.codes.codes.tolist().index(code)
    others = np.arange(len(step.codes.codes)) != row

    def asked(numbers: list[int]) -> QueryDraw:
        return QueryDraw(np.array([numbers]), np.array([code]), np.array([-1]))

    without = step.encode(False, asked([pool.first_labelled - 1])).codes
    hidden = step.encode(False, asked([pool.num_titles + own[0]])).codes
    assert torch.equal(without.text[others], hidden.text[others])
    assert torch.equal(without.words[others], hidden.words[others])
    assert not torch.equal(without.text[row], hidden.text[row])
    assert not torch.equal(without.words[row], hidden.words[row])
    assert not torch.equal(without.tree[row], hidden.tree[row])
    mask = torch.zeros(pool.num_items, dtype=torch.bool)
    mask[own[0]] = True
    shown = CodeFeatures(encoder.features, encoder.shown)
    expected = text_direction(*shown.channels(torch.tensor([code]), mask))
    torch.testing.assert_close(hidden.text[row], expected[0])


def test_items_are_dropped_in_training_by_their_share(make_job: MakeJob) -> None:
    still = Step(make_job("model.example_dropout=0.0")).encode(adapters=False).codes
    some = Step(make_job("model.example_dropout=0.5")).encode(adapters=False).codes
    changed = (still.text - some.text).abs().amax(dim=1) > 1e-4
    assert 0 < changed.float().mean() < 1
    step = Step(make_job("model.example_dropout=0.5"))
    assert torch.equal(step.encode(adapters=False).codes.text, some.text)


def test_only_the_codes_of_the_step_are_encoded_and_held_out_texts_are_not(
    make_job: MakeJob,
) -> None:
    job = make_job()
    step = Step(job)
    held = job.datamodule.splits.held()
    assert not held[step.codes.codes.numpy()].any()
    assert not held[step.asked.answers].any()
    many = job.module.queries.draw(RowDraws(SEED, 0, 1, 0, 4000))
    assert not held[many.answers].any()
    some = job.module.step_encoder.validation.draw(RowDraws(SEED, 0, 1, 0, 500))
    assert np.isin(some.answers, job.datamodule.splits.validation).all()
    assert step.encode(adapters=False).queries.text.shape == (NUM_TEXTS, 32)


def test_everyone_shows_every_text_but_those_that_are_asked(make_job: MakeJob) -> None:
    module = make_job().module
    encoder, pool = module.step_encoder, module.step_encoder.pool
    module.eval()
    whole = encoder.everyone()
    everyone = torch.arange(len(module.taxonomy))
    shown = CodeFeatures(encoder.features)
    own = module.config.model.labelled_weight * shown.labelled(everyone)
    assert own.any()
    torch.testing.assert_close(whole.text, text_direction(*shown.channels(everyone), own))
    for number in (pool.num_titles + 3, pool.first_labelled + 2):  # an item, a text of the user's
        code = int(pool.answers[number])
        draw = QueryDraw(np.array([[number]]), np.array([code]), np.array([-1]))
        without = encoder.everyone(without=draw)
        for now, before in ((without.text, whole.text), (without.words, whole.words)):
            changed = (now - before).abs().amax(dim=1) > 1e-6
            assert changed.nonzero().flatten().tolist() == [code]


def test_adapted_features_are_those_of_the_trained_encoder(make_job: MakeJob) -> None:
    resting = make_job().module.step_encoder
    assert not resting.adapters_trained()
    assert resting.adapted_features() is resting.features
    module = make_job(awake=True).module.eval()
    encoder = module.step_encoder
    assert encoder.adapters_trained()
    found = encoder.adapted_features()
    assert (found.title - encoder.features.title).abs().max() > 1e-3
    tokens = encoder.tokens.texts("title")
    with torch.no_grad():
        torch.testing.assert_close(found.title, unit(module.encoder(tokens)), rtol=1e-4, atol=1e-5)
    assert len(found.query) == 0  # only asked in training
    before, after = encoder.everyone(), encoder.everyone(found)
    assert torch.equal(after.tree, before.tree)  # learned on the frozen encoder's features
    assert (after.text - before.text).abs().max() > 1e-3


def test_text_targets_are_of_the_level_that_is_asked(make_job: MakeJob) -> None:
    step = Step(make_job())
    encoded = step.encode(adapters=False)
    texts = step.inputs(encoded).texts
    depth = torch.from_numpy(step.module.taxonomy.depth.astype(np.int64))
    known = step.module.bank.filled
    answers = torch.from_numpy(step.asked.answers)
    assert texts.truth.tolist() == answers.tolist()
    same = depth[answers][:, None] == depth
    assert torch.equal(texts.shown, same & known)
    unknown = texts.log_weight[:, ~known]
    assert bool(torch.isneginf(unknown).all())
    assert not bool(known.all())  # some are held out
    leaf = depth[answers] == depth.max()  # the sixty codes are of one sector
    assert leaf.sum() > 5
    assert bool((texts.log_weight[leaf] > -torch.inf).any(dim=1).all())
    assert bool(torch.isneginf(texts.log_weight.gather(1, answers[:, None])).all())
    code_text = step.module.step_encoder.code_text
    torch.testing.assert_close(texts.student, encoded.queries.text @ code_text.T)
    torch.testing.assert_close(texts.teacher, texts.student)  # the adapters rest


def test_texts_are_compared_with_fresh_and_remembered_points(make_job: MakeJob) -> None:
    step = Step(make_job("loss.curvature=4.0"))
    encoded = step.encode(adapters=False)
    texts = step.inputs(encoded).texts
    bank, codes = step.module.bank, step.codes.codes
    points = bank.points.clone()
    assert (points[codes] - encoded.codes.points.detach()).abs().max() > 1e-3  # dropout
    points[codes] = encoded.codes.points.detach()
    expected = 2 * pairwise_distance(encoded.queries.points, points, 4.0)
    torch.testing.assert_close(texts.distance, expected)


def test_texts_do_not_move_the_codes(make_job: MakeJob) -> None:
    step = Step(make_job(awake=True))
    step.module.zero_grad()
    encoded = step.encode(adapters=True)
    step.inputs(encoded).texts.distance.sum().backward()
    embedder = step.module.embedder
    for scale in (embedder.log_text, embedder.log_tree, embedder.log_words):
        assert scale.grad is None or not scale.grad.any()
    assert all(
        p.grad is not None and p.grad.any() for _, p in step.module.encoder.lora_parameters()
    )


def test_codes_of_the_step_by_role(make_job: MakeJob) -> None:
    step = Step(make_job("loss.curvature=4.0"))
    encoded = step.encode(adapters=False)
    inputs = step.inputs(encoded)
    codes, taxonomy = step.codes.codes.numpy(), step.module.taxonomy
    rows = torch.arange(len(inputs.anchor))
    assert not inputs.keep[rows, inputs.positive].any()
    assert not inputs.keep[rows, inputs.anchor].any()
    assert bool(inputs.keep.any(dim=1).all())
    np.testing.assert_array_equal(codes[inputs.anchor], step.batch.anchors)
    np.testing.assert_array_equal(codes[inputs.positive], step.batch.positives)
    np.testing.assert_array_equal(inputs.tree_distance, taxonomy.tree_distance(codes, codes))
    np.testing.assert_array_equal(inputs.depth, taxonomy.depth[codes])
    points = encoded.codes.points
    torch.testing.assert_close(inputs.distance, 2 * pairwise_distance(points, points, 4.0))
    torch.testing.assert_close(inputs.radius, 2 * encoded.codes.radius)


def test_no_texts_leave_the_other_terms(make_job: MakeJob) -> None:
    step = Step(make_job("loss.contrastive_weight=0", "loss.distillation_weight=0"), num_texts=0)
    assert len(step.asked) == 0
    encoded = step.encode(adapters=False)
    terms = step.module.objective(step.inputs(encoded))
    assert torch.isfinite(terms["total"])
    assert encoded.frozen_queries.shape == (0, 32)
