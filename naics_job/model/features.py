"""Channel features of the frozen encoder, computed once per data set and kept on disk."""

import hashlib
import json
import logging
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from naics_job.config.data_schema import TokenizationConfig
from naics_job.data.contracts import CHANNELS
from naics_job.data.query_tokens import QUERY_CHANNELS
from naics_job.data.query_views import TITLE, QueryDraw, QueryViews
from naics_job.data.tokens import Ragged, TokenStore
from naics_job.errors import DataError
from naics_job.model.encoder import ChannelEncoder, Progress
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

log = logging.getLogger(__name__)
SCHEMA_VERSION = 2


@dataclass(frozen=True)
class FrozenFeatures:
    """Features of every code; views differ only where a text is too long to be encoded whole.

    Attributes:
        base: view 0, `[code, channel, hidden]` float32, 0 where the channel is missing.
        present: `[code, channel]` bool.
        extra: features of the further views of long texts, `[row, hidden]`.
        extra_row: row of `extra` in views 1, 2, ...: `[view - 1, code, channel]` int32, -1 where
            the view is view 0.
        query: features of the query texts but the titles, `[row, hidden]`, see `data.query_views`.
        query_start: first row of `query` of each code, `[code + 1]` int64.
    """

    base: Tensor
    present: Tensor
    extra: Tensor
    extra_row: Tensor
    query: Tensor
    query_start: Tensor

    @property
    def num_views(self) -> int:
        """Views to choose from, at least 1."""
        return len(self.extra_row) + 1

    def rows(self, positions: Tensor, view: int) -> tuple[Tensor, Tensor]:
        """Features `[code, channel, hidden]` and presence `[code, channel]` of some codes.

        Args:
            positions: codes as positions, `[code]` int64.
            view: any number from 0 up; views repeat after `num_views`.
        """
        features = self.base[positions]
        view %= self.num_views
        if view:
            row = self.extra_row[view - 1, positions].long()  # [code, channel]
            other = row >= 0
            features[other] = self.extra[row[other]]
        return features, self.present[positions]

    def queries(self, draw: QueryDraw) -> tuple[Tensor, Tensor]:
        """Features `[query, channel, hidden]` and presence `[query, channel]` of query texts.

        Each text stands in every channel that a search reads it as.
        """
        codes = torch.from_numpy(draw.codes).to(self.base.device)
        number = torch.from_numpy(draw.numbers).to(self.base.device)
        text = self.base[codes, CHANNELS.index("title")]  # [query, hidden]
        item = number != TITLE
        text[item] = self.query[self.query_start[codes[item]] + number[item] - 1]
        columns = [CHANNELS.index(channel) for channel in QUERY_CHANNELS]
        features = text.new_zeros((len(draw), len(CHANNELS), text.shape[1]))
        features[:, columns] = text[:, None]
        present = torch.zeros(features.shape[:2], dtype=torch.bool, device=features.device)
        present[:, columns] = True
        return features, present

    def to(self, device: torch.device | str) -> "FrozenFeatures":
        """The same features on another device."""
        return FrozenFeatures(**{name: tensor.to(device) for name, tensor in vars(self).items()})

    def single_view(self, base: Tensor) -> "FrozenFeatures":
        """The same codes with features `base` `[code, channel, hidden]` in every view."""
        no_rows = self.extra_row[:0]
        return replace(self, base=base, extra=base[:0, 0], extra_row=no_rows)


def features_digest(
    store_digest: str, base_sha256: str, config: TokenizationConfig, bf16: bool
) -> str:
    """Content address of a feature cache: 64 hex digits.

    `store_digest` covers the texts, the tokenizer and the seed of the views.
    """
    content = [SCHEMA_VERSION, store_digest, base_sha256, asdict(config), bf16]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def open_or_compute(
    encoder: ChannelEncoder,
    store: TokenStore,
    config: TokenizationConfig,
    folder: str,
    queries: QueryViews,
    progress: Progress | None = None,
    *,
    bf16: bool = False,
) -> FrozenFeatures:
    """Read the features of these texts from `folder`, or encode them and save them there.

    A damaged file is announced and made again: it holds nothing that cannot be computed.

    Args:
        encoder: its adapters do not matter.
        store: the token lists of every code; its cache of this node serves the features too.
        config: token limits and the number of views.
        folder: folder or URL; the file is `<digest>.safetensors`.
        queries: the short texts to encode besides.
        progress: called with the tokens done and in all while encoding.
        bf16: encode in bfloat16.
    """
    digest = features_digest(store.digest, encoder.base_sha256, config, bf16)
    url = join(folder, f"{digest}.safetensors")
    num_views, num_codes = config.frozen_views, len(store.is_long(CHANNELS[0]))
    try:
        shape = (num_codes, len(CHANNELS), encoder.hidden_size)
        features = _read(url, shape, num_views, store.cache)
    except DataError as error:
        event(log, logging.WARNING, "features.rebuilt", url=url, reason=str(error.args[0]))
        features = None
    if features is not None:
        event(log, logging.INFO, "features.read", url=url, codes=num_codes, views=num_views)
        return features
    features = compute(encoder, store, num_views, queries, progress, bf16=bf16)
    inputs = {"tokens": store.digest, "base": encoder.base_sha256}
    _write(url, features, inputs, digest)
    return features


def compute(
    encoder: ChannelEncoder,
    store: TokenStore,
    num_views: int,
    queries: QueryViews,
    progress: Progress | None = None,
    *,
    bf16: bool = False,
) -> FrozenFeatures:
    """Encode view 0 of every code, the further views of long texts only, then the query texts."""
    long_texts = [store.is_long(channel) for channel in CHANNELS]
    everyone = np.arange(len(long_texts[0]))
    passes = [{channel: store.view(channel, everyone, 0) for channel in CHANNELS}]
    extra_row = np.full((num_views - 1, len(everyone), len(CHANNELS)), -1, dtype=np.int32)
    count = 0
    for view in range(1, num_views):
        for column, channel in enumerate(CHANNELS):
            codes = np.flatnonzero(long_texts[column])
            if len(codes) == 0:
                continue
            passes.append({channel: store.view(channel, codes, view)})
            extra_row[view - 1, codes, column] = np.arange(count, count + len(codes))
            count += len(codes)
    items, query_start = queries.items()
    passes.append({QUERY_CHANNELS[0]: items})
    meter = _Meter(passes, progress)
    base, present = encoder.encode_frozen(passes[0], meter.start(0), bf16)
    extra = [base.new_zeros((0, encoder.hidden_size))]
    for number, tokens in enumerate(passes[1:], start=1):
        features, _ = encoder.encode_frozen(tokens, meter.start(number), bf16)
        extra.append(features[:, CHANNELS.index(next(iter(tokens)))])
    return FrozenFeatures(
        base=base,
        present=present,
        extra=torch.cat(extra[:-1]),
        extra_row=torch.from_numpy(extra_row).to(base.device),
        query=extra[-1],
        query_start=torch.from_numpy(query_start).to(base.device),
    )


class _Meter:
    """Progress of several passes as one; equal texts within a pass count once they are done."""

    def __init__(self, passes: list[dict[str, Ragged]], progress: Progress | None) -> None:
        self.totals = [sum(int(r.lengths.sum()) for r in tokens.values()) for tokens in passes]
        self.progress = progress

    def start(self, number: int) -> Progress | None:
        report = self.progress
        if report is None:
            return None
        before, own = sum(self.totals[:number]), self.totals[number]
        return lambda done, total: report(before + own * done // max(1, total), sum(self.totals))


def _write(url: str, features: FrozenFeatures, inputs: dict[str, str], digest: str) -> None:
    sha256 = write_tensors(url, vars(features))
    manifest = Manifest(
        file=url.rsplit("/", 1)[-1],
        sha256=sha256,
        rows=len(features.base),
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


def _read(
    url: str, shape: tuple[int, ...], num_views: int, cache: NodeCache
) -> FrozenFeatures | None:
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
    if tuple(features.base.shape) != shape or features.num_views != num_views:
        raise DataError(f"{url} holds other codes or views", "it is computed again")
    return features
