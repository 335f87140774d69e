"""From the features of texts to points of the hyperboloid: words and place in the tree."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from naics_job.config.model_schema import LossConfig, ModelConfig
from naics_job.data.contracts import CHANNELS
from naics_job.geometry.lorentz import exp_map_origin, radius
from naics_job.model.code_offsets import CodeOffsets
from naics_job.model.features import unit
from naics_job.model.lexical import LexicalProjection
from naics_job.model.moe import MixtureOfExperts
from naics_job.model.noise import RowDropout, RowNoise
from naics_job.model.query_gates import QueryGates

PROJECTION_SEED = 0  # of the fixed start of the channel maps
SMALLEST_WEIGHT = 1e-12  # of a code without any channel, whose residual is 0
CURVATURE_RANGE = 10.0  # a learned curvature stays within this factor of loss.curvature
NO_CODE = -1  # `TextInputs.code` of a query
START_EDGE = 0.9  # radius of a level per edge from the root, in units of 1 / sqrt(c)
START_TEXT = 1.2  # length of the text part, in the same unit
BY_ROW = ("points", "text", "words", "tree", "gates", "radius")  # fields of Encoded
PLACE_SHARE = 0.5  # of the queries of a training step that show their place in the tree
START_WORDS = 0.7  # length of a code's lexical part against its dense part


@dataclass(frozen=True)
class Sizes:
    """What the data and the encoder fix."""

    hidden: int  # of the encoder
    vocabulary: int  # of its tokenizer
    levels: int  # of the taxonomy
    codes: int


@dataclass(frozen=True)
class TextInputs:
    """What the embedder reads of some codes or queries.

    Attributes:
        features: `[row, channel, hidden]`, 0 where a channel is missing.
        present: `[row, channel]` bool.
        text: directions of the text part, `[row, hidden]`.
        words: projected TF-IDF vectors `[row, lexical_dim]`; of a code only the direction counts.
        depth: edges from the root of each code `[row]` int64; 0 for a query.
        code: position of each code `[row]` int64; -1 for a query.
    """

    features: Tensor
    present: Tensor
    text: Tensor
    words: Tensor
    depth: Tensor
    code: Tensor

    @property
    def long(self) -> Tensor:
        """Whether a query is read as a description, `[row]` bool."""
        return self.present[:, CHANNELS.index("description")]

    def then(self, other: "TextInputs") -> "TextInputs":
        """These rows and, after them, those of `other`."""
        pairs = {name: (value, getattr(other, name)) for name, value in vars(self).items()}
        return TextInputs(**{name: torch.cat(pair) for name, pair in pairs.items()})


@dataclass(frozen=True)
class Encoded:
    """What the model says about codes and queries; float32 throughout."""

    points: Tensor  # [row, dim + 1], time component first
    text: Tensor  # [row, hidden] direction of the encoder's part
    words: Tensor  # [row, lexical_dim] the words; direction of a code
    tree: Tensor  # [row, tree_dim] direction of the place in the tree
    gates: Tensor  # [row, expert] softmax over all experts
    radius: Tensor  # [row] distance from the origin
    importance: Tensor  # [expert] mean gate probability
    load: Tensor  # [expert] share of the assignments, no gradient
    curvature: float | Tensor  # c > 0
    top_k: int  # experts per code

    def rows(self, part: slice) -> "Encoded":
        """Some of the rows, with the expert statistics over all of them."""
        return replace(self, **{name: getattr(self, name)[part] for name in BY_ROW})


def drop_channels(present: Tensor, rate: float, noise: RowNoise) -> Tensor:
    """Hide each present channel with probability `rate`, but never the last one of a code.

    Args:
        present: `[code, channel]` bool.
        rate: in [0, 1).
        noise: of the codes.
    """
    draw = noise.uniform("channels", present.shape[1]).masked_fill(~present, -1.0)
    last = draw == draw.amax(dim=1, keepdim=True)  # where all are dropped, the largest draw stays
    return present & ((draw >= rate) | last)


class NaicsEmbedder(nn.Module):
    """A point is the exponential map of [text; words; tree], each a direction times a length.

    - text: the encoder's mean of title, description and examples,
    - words: the projected TF-IDF vector of the same texts,
    - tree: what channels, router and experts say of the place in the tree, and an offset of its
      own that a code has learned.

    All codes of a level have the same lengths, so they lie on one shell: none is near to everything
    because it is short, and the order of the distances from a query to the codes of a level is the
    order of the inner products of the parts. A query has the text length of the deepest level; its
    gates say what the other two weigh. An unsure query lies nearer to the origin and is ranked by
    its text and words.

    Lengths start in units of 1 / sqrt(c), so every curvature starts from the same picture.
    """

    length_factors: Tensor  # [2]

    def __init__(
        self,
        config: ModelConfig,
        loss: LossConfig,
        sizes: Sizes,
    ) -> None:
        super().__init__()
        dim, channels = config.tree_dim, len(CHANNELS)
        self.channel_dropout, self.example_dropout = config.channel_dropout, config.example_dropout
        self.feature_dropout = RowDropout("features", config.feature_dropout)
        self.num_levels, self.labelled_weight = sizes.levels, config.labelled_weight
        self.maps = nn.Parameter(_start_map(dim, sizes.hidden).repeat(channels, 1, 1))
        self.map_bias = nn.Parameter(torch.zeros(channels, dim))
        self.null = nn.Parameter(torch.zeros(channels, dim))  # stands for a missing channel
        self.channel_logits = nn.Parameter(torch.zeros(channels))  # weights of the residual mean
        self.experts = MixtureOfExperts(channels * (dim + 1), dim, config.moe)
        self.offsets = CodeOffsets(sizes.codes, dim, config.offset_dropout)
        self.lexical = LexicalProjection(sizes.vocabulary, config.lexical_dim)
        levels = torch.arange(1.0, sizes.levels + 1)
        root = math.sqrt(loss.curvature)
        self.log_tree = nn.Parameter((START_EDGE * levels / root).log())  # [level]
        self.log_text = nn.Parameter(torch.full((sizes.levels,), math.log(START_TEXT / root)))
        self.log_words = nn.Parameter(torch.tensor(math.log(START_WORDS)))  # of codes
        # On codes' lengths of text, and of words beside it; fitted on families that do not train
        self.register_buffer("length_factors", torch.ones(2))
        self.query_gates = QueryGates()
        self.first_curvature = loss.curvature
        if loss.learn_curvature:
            self.curvature_shift = nn.Parameter(torch.zeros(()))
        else:
            self.register_parameter("curvature_shift", None)

    @property
    def dim(self) -> int:
        """Length of a tangent vector; a point has one more value."""
        return int(self.maps.shape[2] + self.lexical.dim + self.maps.shape[1])

    @property
    def curvature(self) -> float | Tensor:
        """Curvature c: the setting, or the learned value within a factor of 10 of it."""
        if self.curvature_shift is None:
            return self.first_curvature
        reach = math.log(CURVATURE_RANGE)
        return self.first_curvature * (reach * self.curvature_shift.tanh()).exp()

    def curvature_value(self) -> float:
        """The curvature as a number, for what needs no gradient of it."""
        curvature = self.curvature
        return curvature if isinstance(curvature, float) else float(curvature.detach())

    @torch.no_grad()
    def center(self, features: Tensor, present: Tensor) -> None:
        """Start the maps' offsets at minus the mean of each channel over some codes.

        Args:
            features: of the training codes, `[code, channel, hidden]`.
            present: `[code, channel]` bool.
        """
        shown = features * present[..., None]
        mean = shown.sum(0) / present.sum(0).clamp_min(1)[:, None]  # [channel, hidden]
        self.map_bias.copy_(-torch.einsum("ch,cdh->cd", mean, self.maps))

    def forward(self, inputs: TextInputs, noise: RowNoise | None = None) -> Encoded:
        """Embed codes and queries.

        Args:
            inputs: what is read of them.
            noise: of the rows; dropout in training reads it.
        """
        query = inputs.depth == 0
        tree, gates, statistics = self._tree(inputs, query, noise)
        with torch.autocast(tree.device.type, enabled=False):  # float32 from here on
            text, words = inputs.text.float(), inputs.words.float()
            lengths = self._lengths(inputs, query, tree.detach(), noise)
            text_length, word_length, tree_length = lengths
            own = torch.where(query[:, None], words, unit(words))  # a code's words count in full
            place = unit(tree)
            parts = (text_length * text, word_length * own, tree_length * place)
            tangent = torch.cat(parts, dim=1)  # [row, dim]
            points = exp_map_origin(tangent, self.curvature)  # [row, dim + 1]
            return Encoded(
                points=points,
                text=text,
                words=own,
                tree=place,
                gates=gates,
                radius=radius(points, self.curvature),
                importance=statistics[0],
                load=statistics[1],
                curvature=self.curvature,
                top_k=self.experts.top_k,
            )

    def place(self, inputs: TextInputs) -> Tensor:
        """Tree parts before scaling `[row, tree_dim]`, outside of training."""
        return self._tree(inputs, inputs.depth == 0, None)[0]

    def code_points(self, depth: Tensor, text: Tensor, words: Tensor, place: Tensor) -> Tensor:
        """Points `[row, dim + 1]` of codes, and of texts that stand where their codes stand.

        An index item, or a labelled text, has the place of its code, and its own text and words.

        Args:
            depth: levels, from 1 on, `[row]` int64.
            text: directions `[row, hidden]`.
            words: projected TF-IDF vectors `[row, lexical_dim]` of any length.
            place: directions of the tree parts `[row, tree_dim]`.
        """
        lengths = (length[depth - 1, None] for length in self._code_lengths())
        parts = (text, unit(words), place)
        tangent = torch.cat([size * part for size, part in zip(lengths, parts, strict=True)], dim=1)
        points: Tensor = exp_map_origin(tangent, self.curvature)
        return points

    def _tree(
        self, inputs: TextInputs, query: Tensor, noise: RowNoise | None
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Tree part before it is scaled `[row, tree_dim]`, gates `[row, expert]`, and statistics.

        The statistics of the experts are those of the codes: queries show one channel and would
        have their own.
        """
        present = inputs.present
        if self.training and self.channel_dropout:
            assert noise is not None, "dropout needs the noise of the step"
            present = drop_channels(present, self.channel_dropout, noise)
        features = self.feature_dropout(inputs.features.flatten(1), noise)
        mapped = torch.einsum("nch,cdh->ncd", features.view_as(inputs.features), self.maps)
        channels = torch.where(present[..., None], mapped + self.map_bias, self.null)
        bits = present.to(channels.dtype)  # [row, channel]
        mixture = self.experts(torch.cat([channels.flatten(1), bits], dim=1), ~query, noise)
        weight = self.channel_logits.softmax(0) * bits  # [row, channel]
        weight = weight / weight.sum(1, keepdim=True).clamp_min(SMALLEST_WEIGHT)
        residual = (channels * weight[..., None]).sum(1)  # [row, tree_dim]
        offsets = self.offsets(inputs.code, noise)
        tree = residual.float() + mixture.output.float() + offsets
        return tree, mixture.gates, (mixture.importance, mixture.load)

    def _code_lengths(self) -> tuple[Tensor, Tensor, Tensor]:
        """Lengths of text, words and tree part of codes, each `[level]`.

        Training makes text and words as short as the codes that train can do with; outside of it
        the factors apply.
        """
        text, ratio = self.log_text.exp(), self.log_words.exp()
        if not self.training:
            text, ratio = text * self.length_factors[0], ratio * self.length_factors[1]
        return text, text * ratio, self.log_tree.exp()

    def _lengths(
        self, inputs: TextInputs, query: Tensor, tree: Tensor, noise: RowNoise | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Lengths `[row, 1]` of the three parts.

        Those of a code are its level's. A query stands beside the deepest level with the same text
        length; the others are such that inner products weigh as its gates say. It takes the lengths
        as they are: texts do not move the levels.
        """
        level = (inputs.depth - 1).clamp_min(0)  # [row]
        text, own_words, tree_own = self._code_lengths()
        last_text, last_words, last_tree = (
            length[-1].detach() for length in (text, own_words, tree_own)
        )
        if self.training:
            # The gates are those of other families. Training asks the text alone of one half of the
            # queries, as words that tell the code would leave the adapter little to learn, and of
            # the other half words and place as well.
            assert noise is not None, "training needs the noise of the step"
            tree_weight = (noise.uniform("place", 1)[:, 0] < PLACE_SHARE).to(tree.dtype)
            word_weight = tree_weight
        else:
            word_weight, tree_weight = self.query_gates(tree, inputs.words.float(), inputs.long)
        lengths = (
            torch.where(query, last_text, text[level]),
            torch.where(query, last_text.square() * word_weight / last_words, own_words[level]),
            torch.where(query, last_text.square() * tree_weight / last_tree, tree_own[level]),
        )
        return lengths[0][:, None], lengths[1][:, None], lengths[2][:, None]


def _start_map(dim: int, hidden_size: int) -> Tensor:
    """Identity `[dim, hidden]`, or a fixed orthogonal projection where the sizes differ."""
    if dim == hidden_size:
        return torch.eye(dim)
    generator = torch.Generator().manual_seed(PROJECTION_SEED)
    return nn.init.orthogonal_(torch.empty(dim, hidden_size), generator=generator)
