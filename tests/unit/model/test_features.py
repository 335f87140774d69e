"""The cache of frozen features: values, views, address, damage."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from naics_job.config.data_schema import ChannelTokens, TokenizationConfig
from naics_job.data.contracts import CHANNELS
from naics_job.data.query_tokens import QueryTokenizer
from naics_job.data.query_views import QueryDraw, QueryViews
from naics_job.data.tokens import TokenStore
from naics_job.data.views import Segments
from naics_job.model.encoder import ChannelEncoder
from naics_job.model.features import compute, features_digest, open_or_compute
from naics_job.storage.node_cache import NodeCache
from naics_job.taxonomy.tree import Taxonomy

CODES = ("11", "111", "1111", "11111", "111110")
LIMITS = ChannelTokens(title=8, description=10, examples=10, excluded=8)
CONFIG = TokenizationConfig(max_tokens=LIMITS, frozen_views=3, query_items=2)


def segments(texts: list[list[list[int]]]) -> Segments:
    """Per code a list of segments, each a list of word numbers."""
    tokens = [[word + 4 for word in segment] for code in texts for segment in code]
    starts = np.concatenate(([0], np.cumsum([len(segment) for segment in tokens])))
    counts = np.concatenate(([0], np.cumsum([len(code) for code in texts])))
    flat = np.array([token for segment in tokens for token in segment], dtype=np.int32)
    return Segments(ids=flat, token_start=starts.astype(np.int64), segment_start=counts)


@pytest.fixture
def queries(tiny_folder: Path) -> QueryViews:
    """The last of five codes is asked for: by its title and two of its three items."""
    taxonomy = Taxonomy.from_codes(CODES, CODES)
    texts = {"title": [["w5"]] * 5, "examples": [[], [], [], [], ["w2", "w3 w4", "w5 w6"]]}
    tokenizer = Tokenizer.from_file(str(tiny_folder / "tokenizer.json"))
    tokenize = QueryTokenizer(tokenizer, {channel: 8 for channel in CHANNELS})
    return QueryViews(taxonomy, texts, CONFIG.query_items, tokenize)


@pytest.fixture
def store(tiny_folder: Path, tmp_path: Path) -> TokenStore:
    """Five codes: short titles, one long description, one long example list, few exclusions."""
    sentences = [[word, word + 1, word + 2] for word in range(0, 45, 3)]
    texts = {
        "title": [[[1, 2]], [[3]], [[1, 2]], [[4]], [[5]]],
        "description": [sentences, [[5, 6]], [], [[7]], []],
        "examples": [[], [[word] for word in range(30)], [], [[8]], []],
        "excluded": [[], [], [], [[9, 1]], []],
    }
    tokenizer = Tokenizer.from_file(str(tiny_folder / "tokenizer.json"))
    limits = {channel: getattr(LIMITS, channel) for channel in CHANNELS}
    cache = NodeCache(tmp_path / "cache", 10**9)
    by_channel = {channel: segments(texts[channel]) for channel in CHANNELS}
    return TokenStore(by_channel, tokenizer, limits, "d" * 64, cache)


def test_views_differ_for_long_texts_only(
    make_encoder: Callable[..., ChannelEncoder], store: TokenStore, queries: QueryViews
) -> None:
    features = compute(make_encoder(), store, 3, queries)
    assert features.num_views == 3
    everyone = torch.arange(4)
    first, present = features.rows(everyone, 0)
    assert present.int().tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]
    long = torch.zeros(4, 4, dtype=torch.bool)
    long[0, 1] = long[1, 2] = True
    for view in (1, 2):
        other, _ = features.rows(everyone, view)
        assert torch.equal((other - first).abs().amax(-1) > 1e-3, long)
    assert len(features.extra) == 4
    assert torch.equal(features.rows(everyone, 7)[0], features.rows(everyone, 1)[0])


def test_rows_equal_the_frozen_encoder(
    make_encoder: Callable[..., ChannelEncoder], store: TokenStore, queries: QueryViews
) -> None:
    encoder = make_encoder()
    features = compute(encoder, store, 3, queries)
    positions = np.array([3, 0, 1, 0])
    for view in range(3):
        tokens = {channel: store.view(channel, positions, view) for channel in CHANNELS}
        expected, present = encoder.encode_frozen(tokens)
        found, found_present = features.rows(torch.from_numpy(positions), view)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        assert torch.equal(found_present, present)


def test_a_query_is_what_the_encoder_makes_of_its_text(
    make_encoder: Callable[..., ChannelEncoder], store: TokenStore, queries: QueryViews
) -> None:
    encoder = make_encoder()
    features = compute(encoder, store, 2, queries)
    assert len(features.query) == 2
    draw = QueryDraw(np.array([4, 4, 4]), np.array([2, 0, 1]))
    found, present = features.queries(draw)
    expected, expected_present = encoder.encode_frozen(queries.tokens(draw))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(present, expected_present)
    assert present[0].tolist() == [True, False, True, False]
    assert (found[0] - found[2]).abs().max() > 1e-3


def test_rows_leave_the_cache_alone(
    make_encoder: Callable[..., ChannelEncoder], store: TokenStore, queries: QueryViews
) -> None:
    features = compute(make_encoder(), store, 2, queries)
    before = features.base.clone()
    for view in (0, 1):
        features.rows(torch.arange(4), view)[0].zero_()
    assert torch.equal(features.base, before)


def test_second_time_is_read_not_computed(
    make_encoder: Callable[..., ChannelEncoder],
    store: TokenStore,
    queries: QueryViews,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = make_encoder()
    reports: list[tuple[int, int]] = []
    first = open_or_compute(
        encoder, store, CONFIG, str(tmp_path), queries, lambda *both: reports.append(both)
    )
    assert reports[-1][0] == reports[-1][1]
    assert reports == sorted(reports)
    monkeypatch.setattr(encoder, "encode_frozen", lambda *_: pytest.fail("computed again"))
    again = open_or_compute(encoder, store, CONFIG, str(tmp_path), queries)
    for name, tensor in vars(first).items():
        assert torch.equal(getattr(again, name), tensor)


def test_address_covers_everything_that_matters() -> None:
    longer = replace(CONFIG, max_tokens=replace(LIMITS, title=9))
    digests = {
        features_digest("d", "b", CONFIG, False),
        features_digest("e", "b", CONFIG, False),
        features_digest("d", "c", CONFIG, False),
        features_digest("d", "b", longer, False),
        features_digest("d", "b", replace(CONFIG, frozen_views=2), False),
        features_digest("d", "b", replace(CONFIG, query_items=3), False),
        features_digest("d", "b", CONFIG, True),
    }
    assert len(digests) == 7


@pytest.mark.parametrize("damage", ["flip", "truncate", "lose manifest", "lose file", "manifest"])
def test_damaged_cache_is_announced_and_made_again(
    make_encoder: Callable[..., ChannelEncoder],
    store: TokenStore,
    queries: QueryViews,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    encoder = make_encoder()
    good = open_or_compute(encoder, store, CONFIG, str(tmp_path), queries)
    (path,) = tmp_path.glob("*.safetensors")
    manifest = path.with_name(path.name + ".manifest.json")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    if damage == "flip":
        path.write_bytes(content)
    elif damage == "truncate":
        path.write_bytes(content[:100])
    elif damage == "manifest":
        manifest.write_text("{")
    else:
        (manifest if damage == "lose manifest" else path).unlink()
    again = open_or_compute(encoder, store, CONFIG, str(tmp_path), queries)
    assert torch.equal(again.base, good.base)
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warnings == ["features.rebuilt"]
    caplog.clear()
    open_or_compute(encoder, store, CONFIG, str(tmp_path), queries)
    assert not [r for r in caplog.records if r.levelno == logging.WARNING]
