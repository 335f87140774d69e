"""The scores of a model beside those of the encoder it started from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from naics_job.data.query_tokens import QueryTokenizer
from naics_job.evaluation.distances import LorentzDistances
from naics_job.evaluation.report import EvaluationReport, frozen_baseline, frozen_distances
from naics_job.evaluation.search import score_search
from naics_job.model.embedder import Encoded, NaicsEmbedder
from naics_job.model.encoder import ChannelEncoder
from naics_job.training.build import Job

Scores = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Scorecard:
    """`all`, `heldout` and `search` by name; the last two are empty where nothing is held out."""

    metrics: Scores
    baseline: Scores
    health: dict[str, float | bool]


@torch.no_grad()
def embed_queries(
    encoder: ChannelEncoder,
    embedder: NaicsEmbedder,
    tokenizer: QueryTokenizer,
    texts: Sequence[str],
) -> Tensor:
    """Points `[text, dim + 1]` of free texts, as an export embeds them.

    Encoder and embedder are in evaluation mode.

    Raises:
        DataError: a text has no word.
    """
    features, present = encoder(tokenizer.asked(texts))
    points: Tensor = embedder(features, present).points
    return points


def score(job: Job, report: EvaluationReport, encoded: Encoded) -> Scorecard:
    """Add the frozen baseline and text search to the report of an embedding.

    Args:
        job: the trained module, the data, and the features of the frozen encoder.
        report: of `encoded`.
        encoded: every code.
    """
    features, data = job.inputs.features, job.inputs.data
    frozen = frozen_baseline(
        features.base.cpu(), features.present.cpu(), data.taxonomy, job.datamodule.heldout
    )
    trained_search, frozen_search = search_scores(job, encoded)
    return Scorecard(
        metrics={"all": report.all, "heldout": report.heldout, "search": trained_search},
        baseline={"all": frozen.all, "heldout": frozen.heldout, "search": frozen_search},
        health=dict(report.health),
    )


def search_scores(job: Job, encoded: Encoded) -> tuple[dict[str, float], dict[str, float]]:
    """How well the held-out index items find their codes: the model, and the frozen encoder.

    The frozen encoder compares the query with the mean over a code's channels, by cosine.
    """
    data, module, features = job.inputs.data, job.module, job.inputs.features
    if not data.queries:
        return {}, {}
    positions, texts = zip(*data.queries, strict=True)
    truth, leaves = np.array(positions), data.taxonomy.six_digit()
    tokenizer = job.inputs.queries.tokenize
    was_training = module.training
    module.eval()
    points = embed_queries(module.encoder, module.embedder, tokenizer, texts)
    frozen, present = module.encoder.encode_frozen(tokenizer(texts))
    module.train(was_training)
    together = torch.cat([encoded.points.cpu(), points.cpu()])
    cosine = frozen_distances(
        torch.cat([features.base.cpu(), frozen.cpu()]),
        torch.cat([features.present.cpu(), present.cpu()]),
    )
    lorentz = LorentzDistances(together, float(encoded.curvature))
    return score_search(lorentz, leaves, truth), score_search(cosine, leaves, truth)
