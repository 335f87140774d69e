"""The scores of a model beside those of the encoder it started from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from naics_job.data.tokens import Ragged
from naics_job.evaluation.distances import CosineDistances, LorentzDistances
from naics_job.evaluation.report import EvaluationReport, evaluate_distances
from naics_job.evaluation.search import score_search
from naics_job.model.embedder import Encoded, TextInputs
from naics_job.model.features import CodeFeatures, text_direction, unit
from naics_job.training.build import Job, query_tokenizer
from naics_job.training.encoding import query_inputs, query_words
from naics_job.training.final import Final

Scores = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Scorecard:
    """`all`, `heldout` and `search` by name; the last two are empty where nothing is held out.

    `heldout` is of the test families.
    """

    metrics: Scores
    baseline: Scores
    health: dict[str, float | bool]


@torch.no_grad()
def read_texts(job: Job, tokens: Ragged, frozen: bool = False) -> TextInputs:
    """What the embedder reads of free texts.

    Args:
        job: the trained module.
        tokens: of the texts.
        frozen: encode them without the adapters.
    """
    module, encoder = job.module, job.module.encoder
    if frozen:
        with encoder.without_adapters():
            features = unit(encoder(tokens))
    else:
        features = unit(encoder(tokens))
    words = query_words(module.embedder, tokens, features.device)
    return query_inputs(features, words, tokens.lengths, module.step_encoder.title_tokens)


def asked_tokens(job: Job, texts: Sequence[str]) -> Ragged:
    """Tokens of free texts as a search reads them.

    Raises:
        DataError: a text has no word.
    """
    return query_tokenizer(job.inputs.base, job.inputs.tokens).asked(texts)


def score(job: Job, final: Final) -> Scorecard:
    """The report of a final network beside that of the frozen encoder, and text search.

    Args:
        job: the trained module, the data, and the features of the frozen encoder.
        final: of the module.
    """
    frozen, report = frozen_report(job), final.report
    trained_search, frozen_search = search_scores(job, final.codes)
    return Scorecard(
        metrics={"all": report.all, "heldout": report.heldout, "search": trained_search},
        baseline={"all": frozen.all, "heldout": frozen.heldout, "search": frozen_search},
        health=dict(report.health),
    )


def frozen_distances(job: Job, queries: torch.Tensor | None = None) -> CosineDistances:
    """1 - cosine of the frozen encoder's mean of title, description and index items.

    After the codes stand the directions `queries` `[text, hidden]`.
    """
    features = CodeFeatures(job.inputs.features)
    everyone = torch.arange(len(job.inputs.data.taxonomy), device=features.features.title.device)
    codes = text_direction(*features.channels(everyone))
    together = codes if queries is None else torch.cat([codes, queries.to(codes.device)])
    return CosineDistances(together.cpu().double())


def frozen_report(job: Job) -> EvaluationReport:
    """The metrics of the frozen encoder on the same codes."""
    test = job.datamodule.splits.test
    return evaluate_distances(frozen_distances(job), job.inputs.data.taxonomy, test)


def search_scores(job: Job, codes: Encoded) -> tuple[dict[str, float], dict[str, float]]:
    """How well the held-out index items find their codes: the points, and the frozen encoder."""
    data, module = job.inputs.data, job.module
    if not data.queries:
        return {}, {}
    positions, texts = zip(*data.queries, strict=True)
    truth, leaves = np.array(positions), data.taxonomy.six_digit()
    tokens = asked_tokens(job, texts)
    was_training = module.training
    module.eval()
    with torch.no_grad():
        points = module.embedder(read_texts(job, tokens)).points
    frozen = read_texts(job, tokens, frozen=True).text
    module.train(was_training)
    together = torch.cat([codes.points.cpu(), points.cpu()])
    lorentz = LorentzDistances(together, float(codes.curvature))
    cosine = frozen_distances(job, frozen)
    return score_search(lorentz, leaves, truth), score_search(cosine, leaves, truth)
