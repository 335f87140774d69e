"""The tokens of every text, computed once and kept in content-addressed shards.

The folder of a store is named by a digest of the texts, the tokenizer and the layout, so a store
can be stale only by being damaged, and damage is found by the checksums of its manifest. Lengths
are cut when a text is read, not when the store is built: `max_tokens` is no part of the digest.
"""

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from naics_job.config.data_schema import DataLoaderConfig
from naics_job.data.contracts import CHANNELS
from naics_job.data.segments import Segments, TokenIds, ranges
from naics_job.data.shards import (
    MANIFEST,
    MappedIds,
    Shard,
    open_shards,
    write_shard,
    write_shards_manifest,
)
from naics_job.errors import DataError
from naics_job.observability.logs import event
from naics_job.storage import files
from naics_job.storage.node_cache import NodeCache
from naics_job.taxonomy.tree import IntArray

if TYPE_CHECKING:  # what prepares the data reads workbooks; a query needs none of it
    from naics_job.data.prepare import NaicsData

log = logging.getLogger(__name__)

VERSION = 2  # grows when the same texts and tokenizer give other tokens or shards
ARRAYS = ("ids", "segment_tokens", "code_segments")  # of each channel in a shard, int32


@dataclass(frozen=True, eq=False)
class Ragged:
    """Token ids of several texts, one after the other, special tokens included.

    Attributes:
        ids: `[token]` int32.
        lengths: `[row]` int64; 0 is a missing channel.
    """

    ids: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SpecialTokens:
    """What a tokenizer puts before and after every text."""

    before: list[int]
    after: list[int]

    def around(self, ids: TokenIds, start: IntArray, length: IntArray, limit: int) -> Ragged:
        """Texts `[row]` of `length` tokens from `start` in `ids`, cut to `limit` in all.

        A text without a token stays without the special ones.
        """
        extra = len(self.before) + len(self.after)
        length = np.minimum(length, limit - extra)
        lengths = np.where(length > 0, length + extra, 0)
        begin = np.cumsum(lengths) - lengths  # [row], in the result
        out = np.empty(int(lengths.sum()), dtype=np.int32)
        filled = length > 0
        for offset, token in enumerate(self.before):
            out[begin[filled] + offset] = token
        for offset, token in enumerate(reversed(self.after), start=1):
            out[begin[filled] + lengths[filled] - offset] = token
        out[ranges(begin + len(self.before), length)] = ids[ranges(start, length)]
        return Ragged(out, lengths)


class TokenStore:
    """Token ids of all codes and channels."""

    def __init__(
        self,
        segments: dict[str, Segments],
        tokenizer: Tokenizer,
        max_tokens: dict[str, int],
        digest: str,
        cache: NodeCache,
    ) -> None:
        self.digest = digest
        self.cache = cache  # of this node, for what is read from remote storage
        self.num_tokens = {channel: len(segments[channel].ids) for channel in CHANNELS}
        self.segments, self.max_tokens = segments, max_tokens
        self.special = special_tokens(tokenizer)
        self.vocabulary_size = tokenizer.get_vocab_size()

    @classmethod
    def open_or_build(
        cls, data: "NaicsData", tokenizer_dir: Path, config: DataLoaderConfig
    ) -> "TokenStore":
        """Read the store of these texts and this tokenizer, building it when there is none.

        Raises:
            DataError: the tokenizer is missing or damaged, or the store is damaged.
        """
        tokenizer, tokenizer_sha256 = load_tokenizer(tokenizer_dir)
        shard_codes = config.streaming.shard_codes
        facts = [VERSION, data.digest, tokenizer_sha256, shard_codes, CHANNELS]
        digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        folder = files.join(config.streaming.token_dir, digest[:32])
        if not files.exists(files.join(folder, MANIFEST)):
            _build(folder, data, tokenizer, shard_codes)
        cache = NodeCache.of(config.streaming)
        shards = open_shards(folder, len(data.taxonomy), cache)
        segments = {channel: _join(shards, channel) for channel in CHANNELS}
        return cls(segments, tokenizer, asdict(config.tokenization.max_tokens), digest, cache)

    def texts(self, channel: str) -> Ragged:
        """One text per code: all segments of a channel in one, cut to `max_tokens`."""
        segments = self.segments[channel]
        return self.special.around(segments.ids, *segments.whole(), self.max_tokens[channel])

    def single_texts(self, channel: str) -> Ragged:
        """One text per segment, code by code, each cut to `max_tokens`."""
        segments = self.segments[channel]
        return self.special.around(segments.ids, *segments.single(), self.max_tokens[channel])


def load_tokenizer(folder: Path) -> tuple[Tokenizer, str]:
    """The tokenizer of the base encoder in `folder`, and the sha256 of its file.

    Raises:
        DataError: it is missing or damaged.
    """
    path = folder / "tokenizer.json"
    hint = "model.base_model_name must name a model with a fast tokenizer (tokenizer.json)"
    if not path.exists():
        raise DataError(f"tokenizer {path} is missing", hint)
    data = files.read_bytes(str(path))
    return parse_tokenizer(data, str(path), hint), hashlib.sha256(data).hexdigest()


def parse_tokenizer(data: bytes, name: str, hint: str) -> Tokenizer:
    """The tokenizer of a tokenizer.json, without the padding and cutting it was saved with.

    Raises:
        DataError: `data`, the content of `name`, is no tokenizer.
    """
    try:
        parsed = json.loads(data)
    except ValueError as error:
        raise DataError(f"tokenizer {name} is damaged", hint) from error
    if not isinstance(parsed, dict) or "model" not in parsed:
        raise DataError(f"{name} is not a tokenizer", hint)
    tokenizer = Tokenizer.from_str(data.decode())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def special_tokens(tokenizer: Tokenizer) -> SpecialTokens:
    """The ids a tokenizer puts before and after a text."""
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    full = tokenizer.encode("a").ids
    begin = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
    return SpecialTokens(full[:begin], full[begin + len(bare) :])


def _build(folder: str, data: "NaicsData", tokenizer: Tokenizer, shard_codes: int) -> None:
    """Write the shards and then the manifest; two processes may do this at once."""
    num_codes = len(data.taxonomy)
    shards: dict[str, files.JSON] = {}
    for begin in range(0, num_codes, shard_codes):
        name = f"shard-{begin // shard_codes:05d}.safetensors"
        arrays: Shard = {}
        for channel in CHANNELS:
            texts = data.texts[channel][begin : begin + shard_codes]
            for key, values in _encode(texts, tokenizer).items():
                arrays[f"{channel}.{key}"] = values
        shards[name] = write_shard(files.join(folder, name), arrays)
    facts: dict[str, files.JSON] = {"version": VERSION, "num_codes": num_codes, "shards": shards}
    write_shards_manifest(folder, facts)
    event(log, logging.INFO, "tokens.built", folder=folder, codes=num_codes, shards=len(shards))


def _encode(texts: list[list[str]], tokenizer: Tokenizer) -> Shard:
    flat = [segment for segments in texts for segment in segments]
    encoded = [item.ids for item in tokenizer.encode_batch(flat, add_special_tokens=False)]
    values = (
        [token for ids in encoded for token in ids],
        [len(ids) for ids in encoded],
        [len(segments) for segments in texts],
    )
    return {key: np.array(row, np.int32) for key, row in zip(ARRAYS, values, strict=True)}


def _join(shards: list[Shard], channel: str) -> Segments:
    ids, segment_tokens, code_segments = (
        [shard[f"{channel}.{key}"] for shard in shards] for key in ARRAYS
    )
    return Segments(
        ids=MappedIds(ids),
        token_start=np.concatenate(
            ([0], np.cumsum(np.concatenate(segment_tokens), dtype=np.int64))
        ),
        segment_start=np.concatenate(
            ([0], np.cumsum(np.concatenate(code_segments), dtype=np.int64))
        ),
    )
