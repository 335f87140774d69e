"""What the parts of queries and codes weigh, fitted on families that do not train."""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from naics_job.data.query_pool import QueryDraw
from naics_job.data.sampler import RowDraws
from naics_job.data.splits import Splits
from naics_job.evaluation.distances import LorentzDistances
from naics_job.evaluation.report import BLOCK_ROWS
from naics_job.evaluation.retrieval import score_queries
from naics_job.model.embedder import Encoded, NaicsEmbedder, TextInputs
from naics_job.model.features import FrozenFeatures, unit
from naics_job.model.query_gates import LONG, NUM_KINDS, signs_of
from naics_job.taxonomy.tree import BoolArray
from naics_job.training.module import NaicsModule

NUM_TEXTS = 512  # asked of the families of the validation split
PURPOSE_EPOCH = 2**31 - 1  # of their random numbers; no epoch of a run has it
WORD_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
TREE_WEIGHTS: tuple[float, ...] = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
TEMPERATURES = (0.02, 0.03, 0.045, 0.07, 0.1)  # of inner products, per try
TEXT_FACTORS = (1.0, 1.15, 1.35, 1.6)
RATIO_FACTORS = (1.0, 1.3, 1.65, 2.1)
CRITERION = "ndcg@10"
MAX_CODES = 512  # trained codes that lengths are fitted on; bounds time
FEWEST = 20  # texts of a kind; with fewer its weights stay
RIDGE = 1e-2  # on the weights of confidence, which few texts tell


@dataclass(frozen=True)
class Asked:
    """Texts of held-out families beside all codes of the deepest level.

    Attributes:
        text, words, tree: inner products of the parts `[query, code]`.
        signs: of confidence `[query, sign]`.
        long: whether each is read as a description `[query]` bool.
        own: whether it is one of the user's own `[query]` bool.
        truth: column of the right code `[query]` int64.
    """

    text: Tensor
    words: Tensor
    tree: Tensor
    signs: Tensor
    long: Tensor
    own: Tensor
    truth: Tensor


def validation_draws(seed: int) -> RowDraws:
    """The random numbers of the texts that are asked, the same in every epoch."""
    return RowDraws(seed, PURPOSE_EPOCH, 0, 0, NUM_TEXTS)


@torch.no_grad()
def fit_gates(embedder: NaicsEmbedder, asked: Asked) -> float:
    """Set the gates of the queries to what ranks best; those of a kind with few texts stay.

    Returns the log likelihood of the right codes with the gates that were set, a mean over texts.

    Confidence is a logistic regression of whether the tree part alone finds the right code among
    the ten nearest. The weight of the place is the smallest of the grid whose likelihood of the
    right codes is within a standard error of the best, that of the words the best. Long texts show
    their place only if texts of the user's tell that it helps: the others are joined from texts of
    the Census, which the maps know better than what a business writes about itself.
    """
    gates = embedder.query_gates
    if len(asked.truth) < FEWEST:
        return 0.0
    own = asked.tree.gather(1, asked.truth[:, None])
    found = ((asked.tree > own).sum(dim=1) < 10).float()
    gates.confidence_weight.copy_(logistic(asked.signs, found))
    confidence = (asked.signs @ gates.confidence_weight).sigmoid()[:, None]
    total, count = 0.0, 0
    for kind in range(NUM_KINDS):
        rows, places = asked.long.long() == kind, TREE_WEIGHTS
        if int(rows.sum()) < FEWEST:
            continue
        if kind == LONG and int((rows & asked.own).sum()) < FEWEST:
            places = TREE_WEIGHTS[:1]
        elif kind == LONG:
            rows = rows & asked.own
        text, words = asked.text[rows], asked.words[rows]
        tree, truth = confidence[rows] * asked.tree[rows], asked.truth[rows]
        fits = torch.stack(
            [
                torch.stack([likelihood(text + w * words + t * tree, truth) for w in WORD_WEIGHTS])
                for t in places
            ]
        )  # [place, word, query]
        word = fits.mean(dim=2).argmax(dim=1)  # [place]
        fits = fits[torch.arange(len(places)), word]  # [place, query]
        best = _simplest(fits)
        gates.tree[kind], gates.word[kind] = places[best], WORD_WEIGHTS[int(word[best])]
        total, count = total + float(fits[best].sum()), count + len(truth)
    return total / max(1, count)


def likelihood(scores: Tensor, truth: Tensor) -> Tensor:
    """Log likelihood of the right code of each text `[query]` at the best temperature."""
    each = [
        -torch.nn.functional.cross_entropy(scores / t, truth, reduction="none")
        for t in TEMPERATURES
    ]
    return max(each, key=lambda values: float(values.mean()))


def _simplest(fits: Tensor) -> int:
    """The first row of `fits` `[choice, query]` within a standard error of the best one.

    The rule of Breiman et al. 1984: what texts of the validation families cannot tell apart from
    the best is taken for as good, as other texts differ from them by more than that.
    """
    best = fits[fits.mean(dim=1).argmax()]
    loss = best - fits  # [choice, query]
    error = loss.std(dim=1) / loss.shape[1] ** 0.5
    return int((loss.mean(dim=1) <= error).nonzero()[0, 0])


def logistic(signs: Tensor, found: Tensor, ridge: float = RIDGE) -> Tensor:
    """Weights `[sign]` of a logistic regression with a small ridge, by Newton's method."""
    signs, found = signs.double(), found.double()
    weight = signs.new_zeros(signs.shape[1])
    shrink = ridge * torch.eye(len(weight), dtype=weight.dtype, device=weight.device)
    for _ in range(25):
        chance = (signs @ weight).sigmoid()
        slope = signs.T @ (chance - found) / len(found) + shrink @ weight
        curve = (signs * (chance * (1 - chance))[:, None]).T @ signs / len(found) + shrink
        weight = weight - torch.linalg.solve(curve, slope)
    return weight.float()


def asked_of(
    embedder: NaicsEmbedder,
    queries: TextInputs,
    draw: QueryDraw,
    codes: Encoded,
    leaves: Tensor,
    own: BoolArray,
) -> Asked:
    """Inner products of the parts of some queries with those of the codes.

    Args:
        embedder: in evaluation mode.
        queries: what it reads of them.
        draw: the same queries by their answers, all codes of the deepest level.
        codes: every code.
        leaves: positions of the codes of the deepest level `[leaf]`, ascending.
        own: which of the queries are the user's own `[query]`.
    """
    tree, words = embedder.place(queries), queries.words
    answers = torch.from_numpy(np.ascontiguousarray(draw.answers)).to(leaves.device)
    return Asked(
        text=queries.text @ codes.text[leaves].T,
        words=words @ codes.words[leaves].T,
        tree=unit(tree) @ codes.tree[leaves].T,
        signs=signs_of(tree, words),
        long=queries.long,
        own=torch.from_numpy(own).to(leaves.device),
        truth=torch.searchsorted(leaves, answers),
    )


@torch.no_grad()
def fit_lengths(module: NaicsModule, codes: Encoded, splits: Splits) -> None:
    """Choose how much text and words count beside the tree in the points of codes.

    Those of the grid under which codes of the validation families find their relatives best
    (NDCG@10), of those under which codes that train find theirs no worse than as trained. Which
    code is nearest to a text does not change, as all codes of a level stay on one shell.

    Args:
        module: in evaluation mode; its embedder takes the factors.
        codes: every code.
        splits: what trains and what was held out.
    """
    embedder, taxonomy = module.embedder, module.taxonomy
    embedder.length_factors.fill_(1.0)
    if not len(splits.validation):
        return
    some = splits.train[:: -(-len(splits.train) // MAX_CODES)]
    queries = np.union1d(some, splits.validation)
    trained = np.isin(queries, some)
    depth, curvature = module.step_encoder.depth, embedder.curvature_value()
    tried: list[tuple[float, float, Tensor]] = []  # trained codes, the others, factors
    for factors in itertools.product(TEXT_FACTORS, RATIO_FACTORS):
        embedder.length_factors.copy_(torch.tensor(factors))
        points = embedder.code_points(depth, codes.text, codes.words, codes.tree)
        found = score_queries(LorentzDistances(points, curvature), taxonomy, queries, BLOCK_ROWS)
        own, others = (found.means(rows)[CRITERION] for rows in (trained, ~trained))
        tried.append((own, others, embedder.length_factors.clone()))
    as_trained = tried[0][0]  # the first factors are 1
    allowed = [(others, factors) for own, others, factors in tried if own >= as_trained]
    best = max(allowed, key=lambda each: each[0], default=tried[0][1:])
    embedder.length_factors.copy_(best[1])


@torch.no_grad()
def calibrate(module: NaicsModule, features: FrozenFeatures | None = None) -> None:
    """Fit the gates of the queries on the texts of the validation families, where there are any.

    Args:
        module: the network.
        features: of the texts of the codes; None: the frozen encoder's.
    """
    was_training = module.training
    module.eval()
    asked = validation_texts(module, features)
    if asked is not None:
        fit_gates(module.embedder, asked[0])
    module.train(was_training)


def validation_texts(
    module: NaicsModule, features: FrozenFeatures | None
) -> tuple[Asked, TextInputs, QueryDraw, Encoded] | None:
    """Texts of held-out families, and the codes without those texts; None where there are none."""
    encoder = module.step_encoder
    draw = encoder.validation.draw(validation_draws(module.config.seed))
    draw = draw.only(np.isin(draw.answers, module.taxonomy.six_digit()))
    if not len(draw):
        return None
    queries = encoder.ask(draw)
    codes = encoder.everyone(features, without=draw)
    leaves = torch.from_numpy(module.taxonomy.six_digit()).to(codes.points.device)
    own = encoder.pool.is_labelled(draw)
    asked = asked_of(module.embedder, queries, draw, codes, leaves, own)
    return asked, queries, draw, codes
