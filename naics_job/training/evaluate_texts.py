"""`evaluate --texts`: how well the codes of a user's texts are found, beside simple systems."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from naics_job.config.load import LoadedConfig
from naics_job.data.labelled import LabelledTexts, read_labelled, refuse_overlap
from naics_job.evaluation.baselines import FrozenCodes, frozen_scores, tfidf_scores
from naics_job.evaluation.text_report import CALIBRATION, TextReport
from naics_job.evaluation.text_scores import (
    Block,
    calibration_error,
    is_right,
    score_systems,
)
from naics_job.export.ranking import Array, CodeRanker, Ranked
from naics_job.export.words import WordIndex
from naics_job.geometry.lorentz import pairwise_distance
from naics_job.training.build import Job
from naics_job.training.documents import leaf_column, leaf_documents
from naics_job.training.evaluate_run import checkpoint_job
from naics_job.training.final import Final, finish
from naics_job.training.scoring import asked_tokens, read_texts

KEY = "--texts"
BLOCK_TEXTS = 256
CALIBRATED = ("search", "search_lexical")


def evaluate_on_texts(loaded: LoadedConfig, ckpt_path: str, url: str) -> TextReport:
    """Scores of a checkpoint on labelled texts.

    Args:
        loaded: the settings of the run.
        ckpt_path: last, a file or URL.
        url: of the texts, see `data.labelled`.

    Raises:
        CheckpointError, DataError, ConfigError: as `evaluate_run.checkpoint_job`.
        DataError: the texts cannot be read, or one of them is trained on.
    """
    job = checkpoint_job(loaded, ckpt_path)
    rows = read_labelled(url, job.inputs.data.taxonomy, KEY)
    if job.inputs.labelled is not None:
        refuse_overlap(job.inputs.labelled, rows)
    asked_tokens(job, rows.texts)  # refuses one without a word before anything takes long
    return report_on_texts(job, finish(job), rows)


@torch.no_grad()
def report_on_texts(job: Job, final: Final, rows: LabelledTexts) -> TextReport:
    """Every system's scores on the same texts; candidates are the six-digit codes.

    Args:
        job: the trained module and what it read.
        final: of the module.
        rows: the texts and their codes, of any level.
    """
    taxonomy = job.inputs.data.taxonomy
    leaves, truth = taxonomy.six_digit(), rows.positions
    kept: dict[str, list[Ranked]] = {name: [] for name in CALIBRATED}
    blocks = _blocks(job, final, rows, kept)
    systems = score_systems(blocks, leaves, truth, taxonomy, rows.weights)
    for name, ranked in kept.items():
        probability = np.concatenate([each.probability for each in ranked])
        correct = is_right(leaves[probability.argmax(axis=1)], truth, taxonomy)
        systems[name][CALIBRATION] = calibration_error(probability.max(axis=1), correct)
    return TextReport(len(rows), f"{rows.url}, sha256 `{rows.sha256}`", systems)


def _blocks(
    job: Job, final: Final, rows: LabelledTexts, kept: dict[str, list[Ranked]]
) -> Iterator[dict[str, Block]]:
    """Scores of every system, some texts at a time; rankings with probabilities go to `kept`."""
    data, embedder = job.inputs.data, job.module.embedder
    documents = leaf_documents(data, job.inputs.labelled)
    words, frozen_codes = WordIndex.of(documents), _frozen_codes(job)
    leaves = torch.from_numpy(data.taxonomy.six_digit()).to(final.codes.points.device)
    ranker = ranker_of(job, final)
    tfidf = tfidf_scores(rows.texts, documents, BLOCK_TEXTS)
    job.module.eval()
    for start in range(0, len(rows), BLOCK_TEXTS):
        texts = rows.texts[start : start + BLOCK_TEXTS]
        tokens = asked_tokens(job, texts)
        read = read_texts(job, tokens)
        points = embedder(read).points
        distance = pairwise_distance(points, final.codes.points[leaves], final.codes.curvature)
        given = (points.cpu().numpy(), read.long.cpu().numpy())
        ranked = (ranker.rank(*given), ranker.rank(*given, words.scores(texts)))
        for name, each in zip(CALIBRATED, ranked, strict=True):
            kept[name].append(each)
        frozen = read_texts(job, tokens, frozen=True).text
        yield {
            "point": -distance,
            **{name: each.score for name, each in zip(CALIBRATED, ranked, strict=True)},
            **next(frozen_scores(frozen, frozen_codes, BLOCK_TEXTS)),
            "tfidf": next(tfidf),
        }


def ranker_of(job: Job, final: Final) -> CodeRanker:
    """What `search` ranks with after an export of the same network."""
    leaves = job.inputs.data.taxonomy.six_digit()
    points = final.codes.points.cpu().numpy()
    items: Array = final.texts.points.cpu().numpy()
    column = leaf_column(job.inputs.data, final.texts.code.cpu().numpy())
    curvature = float(final.codes.curvature)
    return CodeRanker(points[leaves], items, column, curvature, final.calibration)


def _frozen_codes(job: Job) -> FrozenCodes:
    """The six-digit codes as the frozen encoder sees their texts, the user's own among them."""
    features, taxonomy = job.inputs.features, job.inputs.data.taxonomy
    device = features.title.device
    leaves = torch.from_numpy(taxonomy.six_digit()).to(device)
    counts = features.item_start.diff()
    owner = torch.arange(len(counts), device=device).repeat_interleave(counts)
    owner = torch.cat([owner, features.labelled_code])
    every = torch.cat([features.item, features.labelled])
    order = owner.argsort(stable=True)
    order = order[torch.isin(owner[order], leaves)]
    column = torch.searchsorted(leaves, owner[order])
    ends = torch.bincount(column, minlength=len(leaves)).cumsum(0)

    def shown(part: Tensor) -> Tensor:
        return part[leaves].abs().amax(dim=1) > 0

    return FrozenCodes(
        title=features.title[leaves],
        has_title=shown(features.title),
        description=features.description[leaves],
        has_description=shown(features.description),
        items=every[order],
        item_start=torch.cat([ends.new_zeros(1), ends]),
    )
