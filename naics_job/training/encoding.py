"""From codes and query texts to points: from cached features, or through the adapters."""

from dataclasses import dataclass

import torch
from torch import Tensor

from naics_job.data.batch import CodeBatch
from naics_job.data.contracts import CHANNELS
from naics_job.data.query_views import QueryDraw, QueryViews
from naics_job.data.tokens import Ragged, TokenStore
from naics_job.distributed import gather_rows, is_distributed, share_of
from naics_job.model.embedder import Encoded, NaicsEmbedder
from naics_job.model.encoder import ChannelEncoder
from naics_job.model.features import FrozenFeatures
from naics_job.model.noise import StepNoise
from naics_job.taxonomy.tree import Taxonomy

EMBED_BLOCK = 256  # codes encoded at a time outside of steps; bounds memory

Features = tuple[Tensor, Tensor]  # [row, channel, hidden] and presence [row, channel]


@dataclass(frozen=True)
class Sources:
    """What is encoded: the codes, their tokens, what is asked for, and the frozen features."""

    taxonomy: Taxonomy
    tokens: TokenStore
    queries: QueryViews
    features: FrozenFeatures


class StepEncoder:
    """Encodes the texts of a step, or of every code, with the network as it is.

    Attributes:
        features: cached ones, of the frozen encoder or of adapters that rest.
        step_tokens: tokens that went through the encoder in the newest step of this process.
        step_codes: unique codes of the newest step.
    """

    def __init__(self, sources: Sources, encoder: ChannelEncoder, embedder: NaicsEmbedder) -> None:
        self.num_codes, self.tokens = len(sources.taxonomy), sources.tokens
        self.queries, self.features = sources.queries, sources.features
        self.encoder, self.embedder = encoder, embedder
        self.step_tokens = self.step_codes = 0
        self._queries_cached = True

    def to(self, device: torch.device) -> None:
        """Move the cached features; the network moves with its module."""
        self.features = self.features.to(device)

    @torch.no_grad()
    def rest(self) -> None:
        """Cache features of adapters that have trained and now rest, as after a warm start.

        The network must be in evaluation mode.
        """
        self.features = self.features.single_view(self._everyone_through_adapters()[0])
        self._queries_cached = False  # one adapter per channel: one text, several features

    def step(
        self, codes: CodeBatch, asked: QueryDraw, adapters: bool, noise: StepNoise
    ) -> tuple[Encoded, Tensor]:
        """The step's codes, and the points `[query, dim + 1]` of its queries.

        Each process encodes its share of the texts; gradients flow back to the one that did. What
        follows costs about a thousandth of that, so every process does it for all rows: gradients
        of the head need no sum over processes, whose rounding would depend on their number, and
        steps on cached features are the same on any number of processes, bit for bit.

        Args:
            codes: the unique codes of the step, of all processes.
            asked: its queries.
            adapters: encode through the adapters; else cached features serve.
            noise: of the step; a row and a text have the same masks on whichever process.
        """
        self.step_tokens, self.step_codes = 0, len(codes.codes)
        parts = (
            self._codes(codes.codes, codes.epoch, adapters, noise),
            self._texts(asked, adapters, noise),
        )
        features, present = (torch.cat(rows) for rows in zip(*parts, strict=True))
        if is_distributed() and not adapters:  # a gradient for every parameter on every process
            features = features + self.encoder.adapter_zero()
        rows = torch.arange(len(features), device=features.device)
        encoded: Encoded = self.embedder(features, present, noise.of_rows(rows))
        num_codes = len(codes.codes)
        return encoded.first(num_codes), encoded.points[num_codes:]

    @torch.no_grad()
    def everyone(self, device: torch.device) -> Encoded:
        """Every code with view 0, in the mode the network is in; with adapters once trained."""
        if self.adapters_trained():
            features, present = self._everyone_through_adapters()
        else:
            rows = torch.arange(self.num_codes, device=device)
            features, present = self.features.to(device).rows(rows, view=0)
        encoded: Encoded = self.embedder(features, present)
        return encoded

    def adapters_trained(self) -> bool:
        """Whether an adapter differs from its start, where its second factor is 0."""
        named = self.encoder.lora_parameters()
        return any(bool(value.any()) for name, value in named if "lora_B" in name)

    def _codes(self, positions: Tensor, epoch: int, adapters: bool, noise: StepNoise) -> Features:
        if not adapters:
            return self.features.rows(positions, epoch)
        mine = positions[share_of(len(positions))]
        return _gathered(self._through_adapters(mine, epoch, noise), len(positions))

    def _texts(self, asked: QueryDraw, adapters: bool, noise: StepNoise) -> Features:
        if not adapters and self._queries_cached:
            return self.features.queries(asked)
        mine = self.queries.tokens(asked.part(share_of(len(asked))))
        with torch.set_grad_enabled(adapters):
            return _gathered(self._encode(mine, noise), len(asked))

    def _through_adapters(
        self, positions: Tensor, view: int, noise: StepNoise | None = None
    ) -> Features:
        at = positions.cpu().numpy()
        tokens = {channel: self.tokens.view(channel, at, view) for channel in CHANNELS}
        return self._encode(tokens, noise)

    def _encode(self, tokens: dict[str, Ragged], noise: StepNoise | None) -> Features:
        self.step_tokens += sum(int(ragged.lengths.sum()) for ragged in tokens.values())
        encoded: Features = self.encoder(tokens, noise)
        return encoded

    def _everyone_through_adapters(self) -> Features:
        """Every code; each process encodes its share."""
        mine = torch.arange(self.num_codes)[share_of(self.num_codes)]
        parts = [self._through_adapters(rows, view=0) for rows in torch.split(mine, EMBED_BLOCK)]
        features, present = (torch.cat(column) for column in zip(*parts, strict=True))
        return _gathered((features, present), self.num_codes)


def _gathered(share: Features, num_rows: int) -> Features:
    """The features of all processes, from the share that this one encoded."""
    features, present = share
    if not is_distributed() or num_rows == 0:
        return share
    rows = torch.cat([features.flatten(1), present.to(features.dtype)], dim=1)
    rows = gather_rows(rows, num_rows)  # [row, channel * hidden + channel]
    width = rows.shape[1] - present.shape[1]
    return rows[:, :width].view(-1, *features.shape[1:]), rows[:, width:] > 0
