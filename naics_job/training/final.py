"""The network as it is published: every text encoded by it, gates and search calibrated on it."""

import logging
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from naics_job.data.query_pool import NO_TEXT, QueryDraw
from naics_job.evaluation.report import EvaluationReport, evaluate
from naics_job.export.ranking import SearchCalibration
from naics_job.geometry.lorentz import pairwise_distance
from naics_job.model.embedder import Encoded, TextInputs
from naics_job.model.features import FrozenFeatures
from naics_job.observability.heartbeat import beat
from naics_job.observability.logs import event
from naics_job.taxonomy.tree import BoolArray, IntArray
from naics_job.training.build import Job
from naics_job.training.calibration import fit_gates, fit_lengths, validation_texts
from naics_job.training.documents import known_texts, leaf_documents
from naics_job.training.encoding import text_words
from naics_job.training.search_fit import UNCALIBRATED, Searched, fit_search

log = logging.getLogger(__name__)
ITEM_BLOCK = 4096  # texts at a time; bounds memory
NUM_ITEMS = 2000  # index items whose first answers are looked at, about


@dataclass(frozen=True)
class TextPoints:
    """Points of texts whose six-digit code is known: index items, then the user's own texts.

    Attributes:
        points: `[text, dim + 1]`.
        code: positions of their codes `[text]` int64.
        text: the texts.
    """

    points: Tensor
    code: Tensor
    text: list[str]


@dataclass(frozen=True)
class Final:
    """What a run leaves: `report.heldout` is of the test families."""

    report: EvaluationReport
    codes: Encoded
    texts: TextPoints
    calibration: SearchCalibration


@torch.no_grad()
def finish(job: Job) -> Final:
    """Encode all texts with the trained adapters, calibrate, and measure; all processes take part.

    The gates of the network are those of the published one afterwards.
    """
    module, splits = job.module, job.datamodule.splits
    module.eval()
    beat()
    features = _interpolated(job)
    fit_lengths(module, module.step_encoder.everyone(features), splits)
    beat()
    calibration = _calibrated(job, features)
    codes = module.step_encoder.everyone(features)
    curvature = module.embedder.curvature_value()
    report = evaluate(codes.points.cpu(), module.taxonomy, splits.test, curvature)
    return Final(report, codes, text_points(job, features, codes), calibration)


def _interpolated(job: Job) -> FrozenFeatures:
    """Features of all texts by the share of the adapter under which validation texts fit best.

    The weights of the encoder are then those between the base encoder and the trained one
    (WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903).
    """
    module, encoder = job.module, job.module.step_encoder
    if not encoder.adapters_trained():
        return encoder.features
    second = [value for name, value in module.encoder.lora_parameters() if "lora_B" in name]
    trained = [value.clone() for value in second]

    def keep(share: float) -> None:
        for value, whole in zip(second, trained, strict=True):
            value.copy_(share * whole)

    tried: list[tuple[float, float, FrozenFeatures]] = []  # fit, share, features
    for share in module.encoder.shares:
        keep(share)
        features = encoder.adapted_features()
        beat()
        found = validation_texts(module, features) if len(module.encoder.shares) > 1 else None
        fit = fit_gates(module.embedder, found[0]) if found is not None else 0.0
        tried = [max([*tried, (fit, share, features)], key=lambda each: each[0])]
        event(log, logging.INFO, "adapter.share", share=share, log_likelihood=round(fit, 4))
    keep(tried[0][1])
    return tried[0][2]


def _calibrated(job: Job, features: FrozenFeatures) -> SearchCalibration:
    module, pool = job.module, job.module.step_encoder.pool
    found = validation_texts(module, features)
    if found is None:
        return UNCALIBRATED
    asked, queries, draw, codes = found
    fit_gates(module.embedder, asked)
    validation = searched(job, features, draw, queries, codes)
    known = (np.isin(draw.texts, pool.known) | (draw.texts == NO_TEXT)).all(axis=1)
    beat()
    numbers = some_items(job)
    items = alone(job, features, numbers) if len(numbers) else validation.rows(slice(0))
    return fit_search(validation, validation.rows(torch.from_numpy(known)), items)


def alone(job: Job, features: FrozenFeatures, numbers: IntArray) -> Searched:
    """Texts of six-digit codes by number, each asked as if its code had not that text."""
    encoder = job.module.step_encoder
    draw = encoder.pool.alone(numbers)
    codes = encoder.everyone(features, without=draw)
    return searched(job, features, draw, encoder.ask(draw), codes)


def some_items(job: Job) -> IntArray:
    """Numbers of about `NUM_ITEMS` index items of six-digit codes that train, of all sectors."""
    pool = job.module.step_encoder.pool
    items = pool.known[: pool.num_items]
    answers = pool.answers[items]
    trains = np.isin(answers, job.datamodule.splits.train) & pool.leaves[answers]
    items = items[trains & (pool.lengths[items] > 0)]
    some: IntArray = items[:: max(1, -(-len(items) // NUM_ITEMS))]
    return some


def searched(
    job: Job, features: FrozenFeatures, draw: QueryDraw, queries: TextInputs, codes: Encoded
) -> Searched:
    """Queries beside the six-digit codes.

    Args:
        job: the trained network.
        features: of the texts of the codes.
        draw: the queries.
        queries: what the embedder reads of them.
        codes: without their texts.
    """
    module = job.module
    points = module.embedder(queries).points
    leaves = torch.from_numpy(module.taxonomy.six_digit()).to(points.device)
    known = text_points(job, features, codes)
    asked_for = np.concatenate(module.step_encoder.pool.hidden(draw))  # [known text]
    curvature = codes.curvature
    own = pairwise_distance(points, codes.points[leaves], curvature)
    shown = torch.from_numpy(~asked_for[known_rows(job)]).to(points.device)
    column = torch.searchsorted(leaves, known.code[shown])
    items = own.clone()
    has = torch.zeros(len(leaves), dtype=torch.bool, device=own.device)
    has[column] = True
    items[:, has] = torch.inf
    for part in torch.split(torch.arange(int(shown.sum()), device=own.device), ITEM_BLOCK):
        distance = pairwise_distance(points, known.points[shown][part], curvature)
        at = column[part].expand(len(points), -1)
        items.scatter_reduce_(1, at, distance, "amin")
    answers = torch.from_numpy(np.ascontiguousarray(draw.answers)).to(leaves.device)
    cosine = _shared_words(job, draw, asked_for).to(own.device)
    return Searched(own, items, cosine, torch.searchsorted(leaves, answers))


def _shared_words(job: Job, draw: QueryDraw, asked_for: BoolArray) -> Tensor:
    """Cosines of queries and codes by their words `[query, leaf]`.

    The codes do not show `asked_for` `[known text]`. Titles and sentences, which they always show,
    have no words in a query.
    """
    from naics_job.export.words import WordIndex  # onnxruntime starts threads at its import

    pool, data, labelled = job.module.step_encoder.pool, job.inputs.data, job.inputs.labelled
    known = known_texts(data, labelled)
    place = np.full(len(pool.answers) + 1, NO_TEXT)  # among those; the last one is for no text
    place[pool.known] = np.arange(len(known))
    number = place[draw.texts]  # [query, any]
    texts = [". ".join(known[each] for each in row if each >= 0) for row in number]
    cosine = WordIndex.of(leaf_documents(data, labelled, asked_for)).scores(texts)
    return torch.from_numpy(cosine)


def known_rows(job: Job) -> np.ndarray:
    """Which index items and texts of the user's are of a six-digit code, bool, items first."""
    pool = job.module.step_encoder.pool
    rows: np.ndarray = pool.leaves[pool.answers[pool.known]]
    return rows


@torch.no_grad()
def text_points(job: Job, features: FrozenFeatures, codes: Encoded) -> TextPoints:
    """Points of the index items, and of the user's texts, of six-digit codes."""
    module, pool = job.module, job.module.step_encoder.pool
    rows = np.flatnonzero(known_rows(job))
    every = known_texts(job.inputs.data, job.inputs.labelled)
    directions = torch.cat([features.item, features.labelled])
    numbers, answers = pool.known, pool.answers[pool.known]
    device, points = directions.device, []
    for part in np.array_split(rows, max(1, -(-len(rows) // ITEM_BLOCK))):
        at = torch.from_numpy(answers[part]).to(device)
        words = text_words(module.embedder, pool, numbers[part], device)
        depth = torch.full_like(at, module.embedder.num_levels)
        text = directions[torch.from_numpy(part)]
        points.append(module.embedder.code_points(depth, text, words, codes.tree[at]))
    return TextPoints(
        torch.cat(points), torch.from_numpy(answers[rows]).to(device), [every[r] for r in rows]
    )
