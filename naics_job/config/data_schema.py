"""Settings of sources, folders and batches: types, units and ranges. Values: conf/config.yaml."""

import re
from dataclasses import dataclass

from naics_job.config.checks import require, require_choice, require_finite, require_share

SECTOR = re.compile(r"\d{2}(-\d{2})?")
HALF_URL = re.compile(r"[a-z][a-z0-9+]+:/(?!/)")  # s3:/bucket
RELATIVE_KINDS = ("parent", "ancestor", "child", "descendant", "sibling")
QUERY_KINDS = ("title", "item", "sentence", "cross_reference", "mixture", "labelled")


@dataclass(frozen=True, kw_only=True)
class DirsConfig:
    """Folders or fsspec URLs of folders."""

    data_dir: str
    log_dir: str  # local: files there grow line by line, which object stores cannot do
    output_dir: str
    checkpoint_dir: str
    docs_dir: str  # plots and reports

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            require(bool(value.strip()), f"dirs.{name}", value, "at least one character")
            half_url = HALF_URL.match(value) is not None  # would name a local folder "s3:"
            require(not half_url, f"dirs.{name}", value, "a path, or a URL with ://")
        require("://" not in self.log_dir, "dirs.log_dir", self.log_dir, "a local folder")


@dataclass(frozen=True, kw_only=True)
class StorageConfig:
    """How remote storage is asked. Where it is and who asks comes from the environment."""

    retry_minutes: float

    def __post_init__(self) -> None:
        require_finite("storage.retry_minutes", self.retry_minutes)


@dataclass(frozen=True, kw_only=True)
class WorkbookNames:
    """File names of the four Census workbooks below `data.census_url`."""

    codes: str
    descriptions: str
    index: str
    cross_references: str


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the taxonomy and its texts come from."""

    source: str  # auto | census | bundled
    census_url: str
    census_timeout_s: float
    workbooks: WorkbookNames
    sectors: tuple[str, ...]  # empty: all
    max_codes: int | None
    labelled_texts: str | None  # CSV, TSV or Parquet of a user's own texts with their codes

    def __post_init__(self) -> None:
        require_choice("data.source", self.source, ("auto", "census", "bundled"))
        require_finite("data.census_timeout_s", self.census_timeout_s, inclusive=False)
        for sector in self.sectors:
            known = SECTOR.fullmatch(sector) is not None
            require(known, "data.sectors", sector, 'like "11" or "31-33"')
        if self.max_codes is not None:
            require(self.max_codes >= 30, "data.max_codes", self.max_codes, "at or above 30")


@dataclass(frozen=True, kw_only=True)
class ChannelTokens:
    """Most tokens of one text of a channel, special tokens included.

    Examples are read item by item and exclusions sentence by sentence.
    """

    title: int
    description: int
    examples: int
    excluded: int

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            key = f"data_loader.tokenization.max_tokens.{name}"
            require(4 <= value <= 8192, key, value, "in [4, 8192]")


@dataclass(frozen=True, kw_only=True)
class TokenizationConfig:
    """How texts become tokens."""

    max_tokens: ChannelTokens


@dataclass(frozen=True, kw_only=True)
class QueriesConfig:
    """The labelled texts of a step: how many, and how often each kind is drawn."""

    per_anchor: int  # texts per anchor of the step
    title: float
    item: float
    sentence: float
    cross_reference: float
    mixture: float
    labelled: float  # of `data.labelled_texts`, where they are given
    mixture_texts: int  # most texts of a code that are joined into one
    boilerplate: float  # share of texts among sentences that any company could say

    def __post_init__(self) -> None:
        require_finite("data_loader.queries.per_anchor", self.per_anchor)
        for kind in QUERY_KINDS:
            require_finite(f"data_loader.queries.{kind}", getattr(self, kind))
        total = sum(getattr(self, kind) for kind in QUERY_KINDS if kind != "labelled")
        require(total > 0, "data_loader.queries", total, "above 0 for at least one kind of text")
        require_finite("data_loader.queries.mixture_texts", self.mixture_texts, 1)
        require_share("data_loader.queries.boilerplate", self.boilerplate)


@dataclass(frozen=True, kw_only=True)
class StreamingConfig:
    """The tables and token shards that training reads."""

    descriptions: str
    relations: str
    distances: str
    triplets: str
    token_dir: str
    shard_codes: int  # codes per token shard
    cache_dir: str | None  # local folder of the node's cache
    cache_gb: float  # size limit of that folder, 10^9 bytes

    def __post_init__(self) -> None:
        require_finite("data_loader.streaming.shard_codes", self.shard_codes, 1)
        key = "data_loader.streaming.cache_dir"
        local = self.cache_dir is None or (self.cache_dir.strip() and "://" not in self.cache_dir)
        require(bool(local), key, self.cache_dir, "a local folder or null")
        require_finite("data_loader.streaming.cache_gb", self.cache_gb, inclusive=False)


@dataclass(frozen=True, kw_only=True)
class DataLoaderConfig:
    """Batches: how many anchors, how many negatives, what is held out."""

    batch_size: int  # anchors per process and micro-batch, see config.batches
    global_batch_size: int | None  # anchors per optimizer step over all processes
    num_negatives: int  # chosen for each anchor
    num_workers: int
    val_split: float  # share of six-digit codes held out for choices, by whole families
    test_split: float  # share held out for the figures that are reported
    tokenization: TokenizationConfig
    queries: QueriesConfig
    streaming: StreamingConfig

    def __post_init__(self) -> None:
        require_finite("data_loader.batch_size", self.batch_size, 1)
        if self.global_batch_size is not None:
            require_finite("data_loader.global_batch_size", self.global_batch_size, 1)
        require_finite("data_loader.num_negatives", self.num_negatives, 1)
        require_finite("data_loader.num_workers", self.num_workers)
        for key in ("val_split", "test_split"):
            value = getattr(self, key)
            require(0 <= value < 0.5, f"data_loader.{key}", value, "in [0, 0.5)")


@dataclass(frozen=True, kw_only=True)
class PositiveWeights:
    """How often each kind of relative is drawn as the positive; 0 leaves the kind out."""

    parent: float
    ancestor: float  # two or more levels up
    child: float
    descendant: float  # two or more levels down
    sibling: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            require_finite(f"sampling.positives.{name}", value)
        total = sum(vars(self).values())
        require(total > 0, "sampling.positives", vars(self), "above 0 for at least one kind")


@dataclass(frozen=True, kw_only=True)
class SansStaticConfig:
    """Fixed near and far buckets of negatives (SANS, Ahrabian et al. 2020, arXiv:2009.11355)."""

    near_max_distance: int
    near_share: float

    def __post_init__(self) -> None:
        key = "sampling.sans_static.near_max_distance"
        require(1 <= self.near_max_distance <= 9, key, self.near_max_distance, "in [1, 9]")
        require_share("sampling.sans_static.near_share", self.near_share)


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Which positives are drawn, and how negatives are when the curriculum is not asked."""

    strategy: str  # sadc | sans_static
    positives: PositiveWeights
    sans_static: SansStaticConfig

    def __post_init__(self) -> None:
        require_choice("sampling.strategy", self.strategy, ("sadc", "sans_static"))
