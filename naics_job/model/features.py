"""Features of every text, encoded once per data set and kept on disk; codes made of them."""

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from naics_job.config.data_schema import TokenizationConfig
from naics_job.data.contracts import CHANNELS
from naics_job.data.tokens import Ragged, TokenStore
from naics_job.errors import DataError
from naics_job.model.encoder import Progress, TextEncoder
from naics_job.model.grouping import concatenated
from naics_job.model.tensor_file import write_tensors
from naics_job.observability.logs import event
from naics_job.storage.files import (
    Manifest,
    exists,
    join,
    manifest_url,
    read_manifest,
    write_manifest,
)
from naics_job.storage.node_cache import NodeCache, Object
from naics_job.taxonomy.tree import IntArray

log = logging.getLogger(__name__)
SCHEMA_VERSION = 3
SMALLEST_LENGTH = 1e-12
EXCLUDED = CHANNELS.index("excluded")


@dataclass(frozen=True)
class FrozenFeatures:
    """Features of every text of every code, each of length 1; 0 where a text is missing.

    Attributes:
        title, description: `[code, hidden]` float32.
        item: of the index items one by one, `[item, hidden]`.
        item_start: first item of each code, `[code + 1]` int64.
        exclusion: of the sentences that say what a code is not, `[sentence, hidden]`.
        exclusion_start: first sentence of each code, `[code + 1]` int64.
        query: of the texts that are asked besides titles and items, `[text, hidden]`.
        labelled: of the user's own texts, `[text, hidden]`.
        labelled_code: which code each of those has, `[text]` int64.
    """

    title: Tensor
    description: Tensor
    item: Tensor
    item_start: Tensor
    exclusion: Tensor
    exclusion_start: Tensor
    query: Tensor
    labelled: Tensor
    labelled_code: Tensor

    def asked(self, texts: Tensor, lengths: Tensor) -> Tensor:
        """Features `[query, hidden]` of length 1 of queries made of one or several texts.

        The encoder's mean over the tokens of a mixture is close to the mean of the means of its
        parts, each weighted by its tokens. Boilerplate has no feature and no weight.

        Args:
            texts: numbers of texts as in `data.query_pool`, `[query, any]`, -1 where none.
            lengths: tokens of every text, `[text]`.
        """
        start, total = 0, self.title.new_zeros((len(texts), self.title.shape[1]))
        for part in (self.title, self.item, self.query, self.labelled):
            inside = (texts >= start) & (texts < start + len(part))
            row, column = inside.nonzero(as_tuple=True)
            number = texts[row, column]
            total.index_add_(0, row, part[number - start] * lengths[number, None])
            start += len(part)
        return unit(total)

    def to(self, device: torch.device | str) -> "FrozenFeatures":
        """The same features on another device."""
        return FrozenFeatures(**{name: tensor.to(device) for name, tensor in vars(self).items()})


class CodeFeatures:
    """The channels of codes, put together from the features of their texts.

    Args:
        features: of the texts.
        mask: what may be shown: `title` and `description` `[code]`, `item` and `exclusion` by
            number, all bool. None shows everything.
    """

    def __init__(self, features: FrozenFeatures, mask: "ShownTexts | None" = None) -> None:
        self.features = features
        self.shown = mask or ShownTexts.everything(features)

    def channels(self, codes: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Features `[row, channel, hidden]` of length 1 or 0, presence `[row, channel]` bool.

        Args:
            codes: positions `[row]` int64.
            hidden: index items left out, `[item]` bool.
        """
        parts, shown = self.features, self.shown
        items = shown.item if hidden is None else shown.item & ~hidden
        columns = (
            parts.title[codes] * shown.title[codes, None],
            parts.description[codes] * shown.description[codes, None],
            unit(_segment_sums(parts.item, parts.item_start, codes, items)),
            unit(_segment_sums(parts.exclusion, parts.exclusion_start, codes, shown.exclusion)),
        )
        features = torch.stack(columns, dim=1)
        return features, features.abs().amax(dim=2) > 0

    def labelled(
        self, codes: Tensor, hidden: Tensor | None = None, values: Tensor | None = None
    ) -> Tensor:
        """Sum over the user's texts of a code / (their number + 1), `[row, any]`.

        One text of a code counts half, many count in full.

        Args:
            codes: positions `[row]` int64.
            hidden: of those texts the ones left out, `[text]` bool.
            values: what is summed up `[text, any]`; None: the features.
        """
        parts = self.features
        values = parts.labelled if values is None else values
        shown = values.new_ones(len(values)) if hidden is None else (~hidden).float()
        size = len(parts.title)
        total = values.new_zeros((size, values.shape[1]))
        total.index_add_(0, parts.labelled_code, values * shown[:, None])
        count = values.new_zeros(size).index_add(0, parts.labelled_code, shown)
        mean: Tensor = (total / (count + 1)[:, None])[codes]
        return mean


@dataclass(frozen=True)
class ShownTexts:
    """Which texts of the codes may be read; bool by number."""

    title: Tensor
    description: Tensor
    item: Tensor
    exclusion: Tensor

    @classmethod
    def everything(cls, features: FrozenFeatures) -> "ShownTexts":
        """Every text."""
        names = ("title", "description", "item", "exclusion")
        parts = {name: getattr(features, name)[:, 0] for name in names}
        return cls(
            **{name: torch.ones_like(part, dtype=torch.bool) for name, part in parts.items()}
        )

    def to(self, device: torch.device | str) -> "ShownTexts":
        """The same on another device."""
        return ShownTexts(**{name: tensor.to(device) for name, tensor in vars(self).items()})


def unit(features: Tensor) -> Tensor:
    """Features scaled to length 1, as the base encoder was trained to be used; 0 stays 0."""
    return torch.nn.functional.normalize(features.float(), dim=-1, eps=SMALLEST_LENGTH)


def text_direction(features: Tensor, present: Tensor, others: Tensor | float = 0.0) -> Tensor:
    """What codes are by their words, `[row, hidden]`: the mean of the channels that say so.

    Title, description and examples; never the exclusions, which say what a code is not. A code
    that has none of them is read by its exclusions, which is all there is.

    Args:
        features: `[row, channel, hidden]` of length 1 or 0.
        present: `[row, channel]` bool.
        others: added to the sum of the channels, `[row, hidden]`.
    """
    weight = present.float()
    says = weight[:, :EXCLUDED].sum(dim=1, keepdim=True) > 0
    weight = torch.where(says, weight * _ones_but(EXCLUDED, weight), weight)
    return unit((features * weight[..., None]).sum(dim=1) + others)


def _ones_but(column: int, like: Tensor) -> Tensor:
    ones = like.new_ones(like.shape[1])
    ones[column] = 0.0
    return ones


def _segment_sums(values: Tensor, start: Tensor, codes: Tensor, shown: Tensor) -> Tensor:
    """Sums `[row, hidden]` over the shown segments of each code."""
    count = start[codes + 1] - start[codes]
    row = torch.repeat_interleave(torch.arange(len(codes), device=codes.device), count)
    first = torch.cumsum(count, 0) - count
    segment = torch.arange(len(row), device=codes.device) - first[row] + start[codes][row]
    picked = values[segment] * shown[segment, None]
    return values.new_zeros((len(codes), values.shape[1])).index_add(0, row, picked)


@dataclass(frozen=True)
class AskedTexts:
    """What is encoded besides the texts of the codes.

    Attributes:
        asked: texts that training asks.
        labelled: the user's own, which are asked and also say what their codes are.
        labelled_code: positions of their codes `[text]` int64.
    """

    asked: Ragged
    labelled: Ragged
    labelled_code: IntArray

    @property
    def digest(self) -> str:
        """Of all tokens and codes, 64 hex digits."""
        parts = (self.asked.ids, self.asked.lengths, self.labelled.ids, self.labelled.lengths)
        return hashlib.sha256(
            b"|".join(part.tobytes() for part in (*parts, self.labelled_code))
        ).hexdigest()

    def only_labelled(self) -> "AskedTexts":
        """Without the texts that are only asked."""
        none = Ragged(self.asked.ids[:0], self.asked.lengths[:0])
        return AskedTexts(none, self.labelled, self.labelled_code)


def features_digest(
    store_digest: str, queries_digest: str, base_sha256: str, config: TokenizationConfig, bf16: bool
) -> str:
    """Content address of a feature cache: 64 hex digits.

    `store_digest` covers the texts of the codes and the tokenizer.
    """
    facts = [SCHEMA_VERSION, store_digest, queries_digest, base_sha256, asdict(config), bf16]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def open_or_compute(
    encoder: TextEncoder,
    store: TokenStore,
    queries: AskedTexts,
    config: TokenizationConfig,
    folder: str,
    progress: Progress | None = None,
) -> FrozenFeatures:
    """Read the features of these texts from `folder`, or encode them and save them there.

    A damaged file is announced and made again: it holds nothing that cannot be computed.

    Args:
        encoder: its adapters do not matter.
        store: the token lists of every code; its cache of this node serves the features too.
        queries: the texts that are read besides those of the codes.
        config: token limits.
        folder: folder or URL; the file is `<digest>.safetensors`.
        progress: called with the tokens done and in all while encoding.
    """
    digest = features_digest(
        store.digest, queries.digest, encoder.base_sha256, config, encoder.bf16
    )
    url = join(folder, f"{digest}.safetensors")
    num_codes = len(store.segments["title"].segment_start) - 1
    try:
        features = _read(url, (num_codes, encoder.hidden_size), store.cache)
    except DataError as error:
        event(log, logging.WARNING, "features.rebuilt", url=url, reason=str(error.args[0]))
        features = None
    if features is not None:
        event(log, logging.INFO, "features.read", url=url, codes=num_codes)
        return features
    with torch.no_grad(), encoder.without_adapters():
        features = compute(encoder, store, queries, progress).to("cpu")  # as when they are read
    inputs = {"tokens": store.digest, "base": encoder.base_sha256}
    _write(url, features, inputs, digest)
    return features


@torch.no_grad()
def compute(
    encoder: TextEncoder,
    store: TokenStore,
    queries: AskedTexts,
    progress: Progress | None = None,
) -> FrozenFeatures:
    """Encode every text once with the adapters as they are."""
    parts = [store.texts("title"), store.texts("description")]
    parts += [store.single_texts("examples"), store.single_texts("excluded")]
    parts += [queries.asked, queries.labelled]
    every = unit(encoder(concatenated(parts), progress=progress))
    encoded = torch.split(every, [len(part.lengths) for part in parts])
    empty = encoded[0][:0]
    starts = [
        torch.from_numpy(np.asarray(store.segments[channel].segment_start)).to(empty.device)
        for channel in ("examples", "excluded")
    ]
    return FrozenFeatures(
        title=encoded[0].contiguous(),
        description=encoded[1].contiguous(),
        item=encoded[2].contiguous(),
        item_start=starts[0],
        exclusion=encoded[3].contiguous(),
        exclusion_start=starts[1],
        query=encoded[4].contiguous(),
        labelled=encoded[5].contiguous(),
        labelled_code=torch.from_numpy(queries.labelled_code).to(empty.device),
    )


def _write(url: str, features: FrozenFeatures, inputs: dict[str, str], digest: str) -> None:
    sha256 = write_tensors(url, vars(features))
    manifest = Manifest(
        file=url.rsplit("/", 1)[-1],
        sha256=sha256,
        rows=len(features.title),
        schema_version=SCHEMA_VERSION,
        source="frozen encoder",
        inputs=inputs,
        config_hash=digest,
        created_at=datetime.now(UTC).isoformat(),
    )
    write_manifest(url, manifest)


def read_features(url: str, sha256: str, cache: NodeCache) -> FrozenFeatures:
    """Read a file of features whose manifest names `sha256`; its tensors are mapped, not copied.

    Raises:
        DataError: the file has another checksum or holds no features.
    """
    hint = "delete it; the next run computes it again"
    path = cache.get(Object(url, sha256), hint)
    try:
        return FrozenFeatures(**load_file(path))
    except (SafetensorError, TypeError) as error:
        raise DataError(f"{url} holds no features: {error}", hint) from error


def _read(url: str, shape: tuple[int, ...], cache: NodeCache) -> FrozenFeatures | None:
    """Read and check a file of features, None when there is none.

    Raises:
        DataError: it is damaged or half written.
    """
    if not exists(url) and not exists(manifest_url(url)):
        return None
    manifest = read_manifest(url)
    if manifest is None:
        raise DataError(f"{url} is damaged or has no manifest", "it is computed again")
    features = read_features(url, manifest.sha256, cache)
    if tuple(features.title.shape) != shape:
        raise DataError(f"{url} holds other codes", "it is computed again")
    return features
