"""From codes and query texts to points: from cached features, or through the adapters."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from naics_job.data.batch import CodeBatch
from naics_job.data.contracts import CHANNELS
from naics_job.data.query_pool import QueryDraw, QueryPool, QuerySampler
from naics_job.data.tokens import Ragged, TokenStore
from naics_job.distributed import gather_rows, is_distributed, share_of
from naics_job.model.embedder import BY_ROW, NO_CODE, Encoded, NaicsEmbedder, TextInputs
from naics_job.model.encoder import TextEncoder
from naics_job.model.features import (
    AskedTexts,
    CodeFeatures,
    FrozenFeatures,
    ShownTexts,
    compute,
    text_direction,
    unit,
)
from naics_job.model.lexical import DOCUMENT, CodeWords, counted, matrix_entries
from naics_job.model.noise import StepNoise
from naics_job.taxonomy.tree import IntArray, Taxonomy

EMBED_BLOCK = 2048  # codes embedded at a time outside of steps; bounds memory
Hidden = tuple[Tensor, Tensor]  # index items `[item]` and the user's texts `[text]` left out, bool
QUERY_SLOTS = tuple(CHANNELS.index(channel) for channel in ("title", "description"))


@dataclass(frozen=True)
class Sources:
    """What is encoded: the codes, their tokens, what is asked for, and the frozen features.

    `queries`, `shown` and `words` hold what training may read; `validation` asks the texts of the
    families that choices are made on, `all_words` holds everything.
    """

    taxonomy: Taxonomy
    tokens: TokenStore
    queries: QuerySampler
    validation: QuerySampler
    features: FrozenFeatures
    shown: ShownTexts
    words: CodeWords
    all_words: CodeWords


@dataclass(frozen=True)
class EncodedStep:
    """The codes and the queries of a step, and how the frozen encoder sees the queries."""

    codes: Encoded
    queries: Encoded
    frozen_queries: Tensor  # [query, hidden], length 1
    labelled: Tensor  # [query] bool, the user's own texts
    points: Tensor  # [code + query, dim + 1], of which both are parts


def query_inputs(
    features: Tensor, words: Tensor, lengths: IntArray, title_tokens: int
) -> TextInputs:
    """What the embedder reads of free texts: a short one as a title, a longer as a description.

    Args:
        features: `[text, hidden]` of length 1.
        words: projected TF-IDF vectors `[text, lexical_dim]`.
        lengths: tokens of each text, `[text]`.
        title_tokens: most tokens of a title.
    """
    long = torch.from_numpy(np.asarray(lengths) > title_tokens).to(features.device)
    slots = torch.where(long, QUERY_SLOTS[1], QUERY_SLOTS[0])  # [text]
    present = torch.nn.functional.one_hot(slots, len(CHANNELS)).bool()
    channels = features[:, None] * present[..., None]  # [text, channel, hidden]
    none = torch.full_like(slots, NO_CODE)
    return TextInputs(channels, present, features, words, torch.zeros_like(slots), none)


def query_words(embedder: NaicsEmbedder, tokens: Ragged, device: torch.device) -> Tensor:
    """Projected TF-IDF vectors `[text, lexical_dim]` of free texts."""
    ids = torch.from_numpy(np.ascontiguousarray(tokens.ids, dtype=np.int64)).to(device)
    rows = torch.from_numpy(np.repeat(np.arange(len(tokens.lengths)), tokens.lengths)).to(device)
    entries = counted(ids, rows, len(embedder.lexical.idf))
    words: Tensor = embedder.lexical(*entries, len(tokens.lengths))
    return words


def text_words(
    embedder: NaicsEmbedder, pool: QueryPool, numbers: IntArray, device: torch.device
) -> Tensor:
    """Projected TF-IDF vectors `[text, lexical_dim]` of texts of a pool by number."""
    return query_words(embedder, pool.tokens(pool.alone(numbers)), device)


class StepEncoder:
    """Encodes the texts of a step, or every code, with the network as it is.

    Only queries pass through the adapters in a step: the codes stand with the features of the
    frozen encoder until training ends, and so does the memory of what mining looks at. Encoding
    them in every step costs several times as much and gains nothing (docs/method.md).

    Attributes:
        step_tokens: tokens that went through the encoder in the newest step of this process.
        step_codes: unique codes of the newest step.
    """

    def __init__(self, sources: Sources, encoder: TextEncoder, embedder: NaicsEmbedder) -> None:
        self.num_codes, self.tokens = len(sources.taxonomy), sources.tokens
        self.depth = torch.from_numpy(sources.taxonomy.depth.astype(np.int64))
        self.pool, self.features, self.shown = sources.queries.pool, sources.features, sources.shown
        self.words, self.all_words = sources.words, sources.all_words
        self.validation = sources.validation
        self.encoder, self.embedder = encoder, embedder
        self.step_tokens = self.step_codes = 0
        self.title_tokens = sources.tokens.max_tokens["title"]
        self.lengths = torch.from_numpy(sources.queries.pool.lengths).float()
        self.labelled_weight = embedder.labelled_weight
        self._labelled_words: Tensor | None = None  # made of the projection when first needed
        self.parts = 1  # pieces that the texts of a step are encoded in
        shown = CodeFeatures(sources.features, sources.shown)
        everyone = torch.split(torch.arange(self.num_codes), EMBED_BLOCK)
        self.code_text = torch.cat(
            [self._text(shown, part, *shown.channels(part)) for part in everyone]
        )

    def to(self, device: torch.device) -> None:
        """Move the cached features; the network moves with its module."""
        self.features, self.shown = self.features.to(device), self.shown.to(device)
        self.depth, self.lengths = self.depth.to(device), self.lengths.to(device)
        self.code_text = self.code_text.to(device)

    def step(
        self, batch: CodeBatch, asked: QueryDraw, adapters: bool, noise: StepNoise
    ) -> EncodedStep:
        """The step's codes and queries.

        Each process encodes its share of the texts; gradients flow back to the one that did. What
        follows costs about a thousandth of that, so every process does it for all rows: gradients
        of the head need no sum over processes, whose rounding would depend on their number, and
        steps on cached features are the same on any number of processes, bit for bit.

        Args:
            batch: the unique codes of the step, of all processes.
            asked: its queries; an index item among them is hidden from its code.
            adapters: encode the queries through the adapters; else cached features serve.
            noise: of the step; a row and a text have the same masks on whichever process.
        """
        codes, device = batch.codes, batch.codes.device
        self.step_tokens, self.step_codes = 0, len(codes)
        shown = CodeFeatures(self.features, self.shown)
        inputs = self._inputs(shown, self.words, codes, self._hidden(asked, noise))
        frozen = self.features.asked(torch.from_numpy(asked.texts).to(device), self.lengths)
        texts = self._query_inputs(asked, frozen, adapters, noise)
        together = inputs.then(texts)
        rows = torch.arange(len(together.depth), device=device)
        encoded: Encoded = self.embedder(together, noise.of_rows(rows))
        return EncodedStep(
            codes=encoded.rows(slice(len(codes))),
            queries=encoded.rows(slice(len(codes), None)),
            frozen_queries=frozen,
            labelled=torch.from_numpy(self.pool.is_labelled(asked)).to(device),
            points=encoded.points,
        )

    @torch.no_grad()
    def everyone(
        self, features: FrozenFeatures | None = None, without: QueryDraw | None = None
    ) -> Encoded:
        """Every code with all its texts, in the mode the network is in.

        The place in the tree is made of the frozen encoder's features, on which it was learned,
        whatever the text part is made of.

        Args:
            features: of the text part; None: the frozen encoder's, as in training.
            without: queries whose own texts the codes do not show.
        """
        whole = CodeFeatures(self.features)
        said = whole if features is None else CodeFeatures(features)
        hidden = None if without is None else self._asked(without)
        everyone = torch.arange(self.num_codes, device=self.depth.device)
        blocks = torch.split(everyone, EMBED_BLOCK)
        return joined(
            [
                self.embedder(self._inputs(whole, self.all_words, part, hidden, said))
                for part in blocks
            ]
        )

    @torch.no_grad()
    def adapted_features(self) -> FrozenFeatures:
        """Features of all texts of the codes by the encoder as it is now: a pass over all texts.

        Where the adapter has not trained, those that are at hand.
        """
        if not self.adapters_trained():
            return self.features
        texts = AskedTexts(
            self.pool.asked_tokens, self.pool.labelled_tokens, self.pool.labelled_code
        )
        return compute(self.encoder, self.tokens, texts.only_labelled())

    @torch.no_grad()
    def ask(self, asked: QueryDraw) -> TextInputs:
        """What the embedder reads of some queries outside of training."""
        numbers = torch.from_numpy(asked.texts).to(self.depth.device)
        frozen = self.features.asked(numbers, self.lengths)
        return self._query_inputs(asked, frozen, adapters=False, noise=None)

    def adapters_trained(self) -> bool:
        """Whether the adapter differs from its start, where its second factor is 0."""
        named = self.encoder.lora_parameters()
        return any(bool(value.any()) for name, value in named if "lora_B" in name)

    def _hidden(self, asked: QueryDraw, noise: StepNoise) -> Hidden:
        """What no code shows in this step: what is asked, and a random part of the index items."""
        items, labelled = self._asked(asked)
        rate = self.embedder.example_dropout
        if rate and self.embedder.training and len(items):
            rows = torch.arange(len(items), device=items.device)
            items = items | (noise.of_rows(rows).uniform("examples", 1)[:, 0] < rate)
        return items, labelled

    def _asked(self, asked: QueryDraw) -> Hidden:
        items, labelled = self.pool.hidden(asked)
        device = self.depth.device
        return torch.from_numpy(items).to(device), torch.from_numpy(labelled).to(device)

    def _inputs(
        self,
        features: CodeFeatures,
        words: CodeWords,
        codes: Tensor,
        hidden: Hidden | None,
        said: CodeFeatures | None = None,
    ) -> TextInputs:
        """What the embedder reads of codes; `said` are the features of the text part, if others."""
        items, labelled = hidden if hidden is not None else (None, None)
        channels, present = features.channels(codes, items)
        said = features if said is None else said
        spoken = channels if said is features else said.channels(codes, items)[0]
        text = self._text(said, codes, spoken, present, labelled)
        counts = words.counts(codes.cpu().numpy(), None if items is None else items.cpu().numpy())
        projected = self.embedder.lexical(*matrix_entries(counts, codes.device), len(codes))
        own = features.labelled(codes, labelled, self._own_words(codes.device))
        document = projected + self.labelled_weight / len(DOCUMENT) * own  # a title is one of three
        return TextInputs(channels, present, text, document, self.depth[codes], codes)

    def _own_words(self, device: torch.device) -> Tensor:
        """Projected TF-IDF vectors `[text, lexical_dim]` of the user's own texts."""
        if self._labelled_words is None or self._labelled_words.device != device:
            self._labelled_words = query_words(self.embedder, self.pool.labelled_tokens, device)
        return self._labelled_words

    def _text(
        self,
        features: CodeFeatures,
        codes: Tensor,
        channels: Tensor,
        present: Tensor,
        hidden: Tensor | None = None,
    ) -> Tensor:
        """Directions of the text part of codes, the user's own texts among them."""
        own = self.labelled_weight * features.labelled(codes, hidden)
        return text_direction(channels, present, own)

    def _query_inputs(
        self, asked: QueryDraw, frozen: Tensor, adapters: bool, noise: StepNoise | None
    ) -> TextInputs:
        tokens = self.pool.tokens(asked)
        features = self._query_features(tokens, frozen, adapters, noise)
        if is_distributed() and not adapters and torch.is_grad_enabled():
            features = features + self.encoder.adapter_zero()  # DDP waits for every gradient
        words = query_words(self.embedder, tokens, features.device)
        return query_inputs(features, words, tokens.lengths, self.title_tokens)

    def _query_features(
        self, tokens: Ragged, frozen: Tensor, adapters: bool, noise: StepNoise | None
    ) -> Tensor:
        """Features `[query, hidden]` of length 1."""
        if not adapters and not self.adapters_trained():
            return frozen
        mine = share_of(len(tokens.lengths))
        ends = np.cumsum(tokens.lengths)
        starts = ends - tokens.lengths
        lengths = tokens.lengths[mine]
        span = slice(int(starts[mine][0]), int(ends[mine][-1])) if len(lengths) else slice(0)
        part = Ragged(tokens.ids[span], lengths)
        self.step_tokens += int(lengths.sum())
        with torch.set_grad_enabled(adapters and torch.is_grad_enabled()):
            encoded = self.encoder(part, noise, parts=self.parts)
            if is_distributed():
                encoded = gather_rows(encoded, len(tokens.lengths))
            return unit(encoded)


def joined(parts: list[Encoded]) -> Encoded:
    """Several blocks of codes as one, with the expert statistics of all."""
    shares = torch.tensor([float(len(part.points)) for part in parts])
    shares = (shares / shares.sum()).to(parts[0].points.device)
    rows = {name: torch.cat([getattr(part, name) for part in parts]) for name in BY_ROW}
    for name in ("importance", "load"):
        rows[name] = (torch.stack([getattr(part, name) for part in parts]) * shares[:, None]).sum(0)
    return Encoded(**rows, curvature=parts[0].curvature, top_k=parts[0].top_k)
