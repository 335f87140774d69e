"""What a run leaves: points of known texts, codes by the trained encoder, a calibrated search."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from naics_job.evaluation.baselines import tfidf_scores
from naics_job.geometry.lorentz import log_map_origin, pairwise_distance
from naics_job.training import final
from naics_job.training.build import Job
from naics_job.training.final import finish, known_rows, text_points
from naics_job.training.search_fit import UNCALIBRATED, Searched

MakeJob = Callable[..., Job]


def test_codes_are_those_of_the_trained_encoder_and_test_families_are_scored(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(awake=True)
    seen: list[np.ndarray] = []
    whole = final.evaluate

    def evaluate(points, taxonomy, heldout, curvature):  # type: ignore[no-untyped-def]
        seen.append(heldout)
        return whole(points, taxonomy, heldout, curvature)

    monkeypatch.setattr(final, "evaluate", evaluate)
    left = finish(job)
    np.testing.assert_array_equal(seen[0], job.datamodule.splits.test)
    encoder = job.module.step_encoder
    expected = encoder.everyone(encoder.adapted_features())
    torch.testing.assert_close(left.codes.points, expected.points)
    frozen = encoder.everyone()
    assert (left.codes.text - frozen.text).abs().max() > 1e-3
    assert left.report.all["ndcg@10"] > 0
    assert left.calibration != UNCALIBRATED


def test_every_known_text_of_a_six_digit_code_has_a_point_in_its_place(make_job: MakeJob) -> None:
    job = make_job()
    module, data = job.module.eval(), job.inputs.data
    features = module.step_encoder.adapted_features()
    codes = module.step_encoder.everyone(features)
    found = text_points(job, features, codes)
    leaves = set(data.taxonomy.six_digit().tolist())
    rows = [
        (code, text)
        for code, items in enumerate(data.texts["examples"])
        for text in items
        if code in leaves
    ]
    own = job.inputs.labelled
    assert own is not None
    assert set(own.positions) < leaves
    rows += list(zip(own.positions.tolist(), own.texts, strict=True))
    assert len(rows) > 20
    assert list(zip(found.code.tolist(), found.text, strict=True)) == rows
    assert known_rows(job).sum() == len(rows)
    curvature = module.embedder.curvature_value()
    item = log_map_origin(found.points, curvature)
    of_codes = log_map_origin(codes.points[found.code], curvature)
    place = slice(-module.config.model.tree_dim, None)
    torch.testing.assert_close(item[:, place], of_codes[:, place], rtol=1e-3, atol=1e-3)
    text = torch.nn.functional.normalize(item[:, :32], dim=1)
    expected = torch.cat([features.item, features.labelled])[torch.from_numpy(known_rows(job))]
    torch.testing.assert_close(text, expected, rtol=1e-3, atol=1e-3)


def test_the_nearest_text_is_one_that_was_not_asked(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job()
    module = job.module.eval()
    seen: list[tuple[Searched, Searched, Searched]] = []

    def fit(*texts):  # type: ignore[no-untyped-def]
        seen.append(texts)
        return UNCALIBRATED

    monkeypatch.setattr(final, "fit_search", fit)
    features = module.step_encoder.adapted_features()
    with torch.no_grad():
        assert final._calibrated(job, features) is UNCALIBRATED
        found = final.validation_texts(module, features)
    assert found is not None
    validation, words, _ = seen[0]
    _, queries, draw, codes = found
    leaves = torch.from_numpy(module.taxonomy.six_digit())
    with torch.no_grad():
        points = module.embedder(queries).points
    known = text_points(job, features, codes)
    numbers = module.step_encoder.pool.known[known_rows(job)]
    shown = ~np.isin(numbers, draw.texts)
    assert not shown.all()
    curvature = codes.curvature
    own = pairwise_distance(points, codes.points[leaves], curvature)
    torch.testing.assert_close(validation.code, own, rtol=1e-4, atol=1e-4)
    every = pairwise_distance(points, known.points, curvature)
    for column, leaf in enumerate(leaves.tolist()):
        mine = torch.from_numpy(shown) & (known.code == leaf)
        expected = every[:, mine].amin(dim=1) if mine.any() else own[:, column]
        torch.testing.assert_close(validation.item[:, column], expected, rtol=1e-4, atol=1e-4)
    plain = np.where(draw.texts >= 0, np.isin(draw.texts, numbers), True).all(axis=1)
    assert 0 < plain.sum() < len(plain)
    assert torch.equal(words.truth, validation.truth[torch.from_numpy(plain)])
    assert torch.equal(words.code, validation.code[torch.from_numpy(plain)])
    texts = dict(zip(numbers.tolist(), known.text, strict=True))
    asked = [". ".join(texts[n] for n in row if n >= 0) for row in draw.texts[plain].tolist()]
    documents = []  # what is left of each code
    for leaf in leaves.tolist():
        said = [*job.inputs.data.texts["title"][leaf], *job.inputs.data.texts["description"][leaf]]
        mine = shown & (known.code == leaf).numpy()
        documents.append("\n".join([*said, *np.array(known.text)[mine]]))
    expected = np.concatenate(list(tfidf_scores(asked, documents)))
    np.testing.assert_allclose(words.cosine.numpy(), expected, atol=1e-6)


def test_a_text_is_asked_as_if_its_code_had_it_not(make_job: MakeJob) -> None:
    job = make_job(awake=True)
    encoder, embedder = job.module.eval().step_encoder, job.module.embedder
    features, pool = encoder.adapted_features(), encoder.pool
    leaves = job.module.taxonomy.six_digit()
    numbers = pool.first_labelled + np.arange(len(pool.labelled_code))  # all there are
    with torch.no_grad():
        found = final.alone(job, features, numbers)
        points = embedder(encoder.ask(pool.alone(numbers))).points
        whole = encoder.everyone(features)
    np.testing.assert_array_equal(leaves[found.truth], pool.answers[numbers])
    shown = pairwise_distance(points, whole.points[torch.from_numpy(leaves)], whole.curvature)
    rows = torch.arange(len(numbers))
    assert (found.code[rows, found.truth] > shown[rows, found.truth]).all()
    other = torch.ones_like(shown, dtype=torch.bool)
    other[:, found.truth] = False  # codes of which nothing is asked
    torch.testing.assert_close(found.code[other], shown[other], rtol=1e-4, atol=1e-4)
    own = found.code[rows, found.truth]  # no text of the code is left
    torch.testing.assert_close(found.item[rows, found.truth], own)


def test_items_of_all_codes_that_train_say_how_sure_answers_are(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job()
    pool, splits = job.module.step_encoder.pool, job.datamodule.splits
    assert not len(final.some_items(job))  # bundled codes of six digits have no items
    monkeypatch.setattr(pool, "leaves", np.ones_like(pool.leaves))
    every = final.some_items(job)
    items = pool.num_titles + np.arange(pool.num_items)
    expected = items[np.isin(pool.answers[items], splits.train)]
    np.testing.assert_array_equal(every, expected)
    assert 0 < len(every) < pool.num_items
    monkeypatch.setattr(final, "NUM_ITEMS", len(every) // 3)
    some = final.some_items(job)
    assert len(every) // 4 <= len(some) <= len(every) // 3
    assert set(some) < set(every)


def test_without_a_part_for_words_everything_else_is_there(make_job: MakeJob) -> None:
    job = make_job("model.lexical_dim=0")
    left = finish(job)
    assert left.codes.points.shape[1] == job.module.embedder.dim + 1
    assert left.texts.points.shape[1] == job.module.embedder.dim + 1
    assert left.calibration != UNCALIBRATED


def test_without_validation_families_a_search_is_not_calibrated(make_job: MakeJob) -> None:
    left = finish(make_job("data_loader.val_split=0"))
    assert left.calibration == UNCALIBRATED


def test_validation_texts_choose_the_share_of_the_adapter(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job("model.lora.interpolation=[0.25, 0.5, 1]", awake=True)
    named = job.module.encoder.lora_parameters()
    before = {name: value.clone() for name, value in named}
    fits = iter([-2.0, -1.0, -3.0, 0.0])  # of the shares, and when the gates are set
    monkeypatch.setattr(final, "fit_gates", lambda *_: next(fits))
    left = finish(job)
    for name, value in named:
        share = 0.5 if "lora_B" in name else 1.0
        torch.testing.assert_close(value, share * before[name])
    encoder = job.module.step_encoder
    expected = encoder.everyone(encoder.adapted_features())
    torch.testing.assert_close(left.codes.points, expected.points)
