"""Features of texts: values, how codes are put together of them, the cache on disk."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor

from naics_job.config.data_schema import ChannelTokens, TokenizationConfig
from naics_job.data.contracts import CHANNELS
from naics_job.data.segments import Segments
from naics_job.data.tokens import Ragged, TokenStore
from naics_job.model.encoder import TextEncoder
from naics_job.model.features import (
    AskedTexts,
    CodeFeatures,
    FrozenFeatures,
    ShownTexts,
    compute,
    features_digest,
    open_or_compute,
    text_direction,
    unit,
)
from naics_job.storage.node_cache import NodeCache

MakeEncoder = Callable[..., TextEncoder]
LIMITS = ChannelTokens(title=8, description=10, examples=10, excluded=8)
CONFIG = TokenizationConfig(max_tokens=LIMITS)
LABELLED_CODE = np.array([4, 4, 1])


def segments(texts: list[list[list[int]]]) -> Segments:
    """Per code a list of segments, each a list of word numbers."""
    tokens = [[word + 4 for word in segment] for code in texts for segment in code]
    starts = np.concatenate(([0], np.cumsum([len(segment) for segment in tokens])))
    counts = np.concatenate(([0], np.cumsum([len(code) for code in texts])))
    flat = np.array([token for segment in tokens for token in segment], dtype=np.int32)
    return Segments(ids=flat, token_start=starts.astype(np.int64), segment_start=counts)


@pytest.fixture
def store(tiny_folder: Path, tmp_path: Path) -> TokenStore:
    """Five codes: short titles, one long description, items of three codes, few exclusions."""
    sentences = [[word, word + 1, word + 2] for word in range(0, 45, 3)]
    texts = {
        "title": [[[code]] for code in range(5)],
        "description": [sentences, [[1, 2]], [], [[9]], []],
        "examples": [[[7]], [], [], [[8], [8, 9]], [[2], [3, 4], [5, 6]]],
        "excluded": [[], [[11, 12], [13]], [], [], []],
    }
    found = {channel: segments(texts[channel]) for channel in CHANNELS}
    tokenizer = Tokenizer.from_file(str(tiny_folder / "tokenizer.json"))
    cache = NodeCache(tmp_path / "node", 10**9)
    return TokenStore(found, tokenizer, vars(LIMITS), "d" * 64, cache)


@pytest.fixture
def asked(ragged: Callable[[list[list[int]]], Ragged]) -> AskedTexts:
    """Two texts that are only asked, three of the user's."""
    return AskedTexts(
        ragged([[2, 20, 3], [2, 21, 22, 3]]),
        ragged([[2, 30, 3], [2, 31, 32, 3], [2, 33, 3]]),
        LABELLED_CODE,
    )


def features(asked_texts: int = 2) -> FrozenFeatures:
    """Random features of five codes with as many items as `store` has."""
    generator = torch.Generator().manual_seed(0)

    def random(rows: int) -> Tensor:
        return unit(torch.randn(rows, 32, generator=generator))

    description = random(5)
    description[[2, 4]] = 0
    return FrozenFeatures(
        title=random(5),
        description=description,
        item=random(6),
        item_start=torch.tensor([0, 1, 1, 1, 3, 6]),
        exclusion=random(2),
        exclusion_start=torch.tensor([0, 0, 2, 2, 2, 2]),
        query=random(asked_texts),
        labelled=random(3),
        labelled_code=torch.from_numpy(LABELLED_CODE),
    )


def everyone() -> Tensor:
    return torch.arange(5)


def test_every_text_is_encoded_to_length_one(
    make_encoder: MakeEncoder, store: TokenStore, asked: AskedTexts
) -> None:
    encoder = make_encoder().eval()
    found = compute(encoder, store, asked)
    pairs = [
        (found.title, store.texts("title")),
        (found.description, store.texts("description")),
        (found.item, store.single_texts("examples")),
        (found.exclusion, store.single_texts("excluded")),
        (found.query, asked.asked),
        (found.labelled, asked.labelled),
    ]
    for values, tokens in pairs:
        torch.testing.assert_close(values, unit(encoder(tokens).detach()), rtol=1e-4, atol=1e-5)
        full = torch.from_numpy(tokens.lengths > 0)
        torch.testing.assert_close(values.norm(dim=1), full.float())
    assert found.item_start.tolist() == [0, 1, 1, 1, 3, 6]
    assert found.exclusion_start.tolist() == [0, 0, 2, 2, 2, 2]
    assert found.labelled_code.tolist() == LABELLED_CODE.tolist()
    assert not any(tensor.requires_grad for tensor in vars(found).values())


def test_channels_are_texts_and_means_of_texts() -> None:
    parts = features()
    codes = torch.tensor([4, 1, 2, 0, 4])
    found, present = CodeFeatures(parts).channels(codes)
    assert found.shape == (5, 4, 32)
    for row, code in enumerate(codes.tolist()):
        items = parts.item[int(parts.item_start[code]) : int(parts.item_start[code + 1])]
        no = parts.exclusion[
            int(parts.exclusion_start[code]) : int(parts.exclusion_start[code + 1])
        ]
        expected = [parts.title[code], parts.description[code]]
        expected += [unit(each.sum(0)) for each in (items, no)]
        torch.testing.assert_close(found[row], torch.stack(expected))
    assert present.tolist() == [
        [True, False, True, False],
        [True, True, False, True],
        [True, False, False, False],
        [True, True, True, False],
        [True, False, True, False],
    ]


def test_hidden_items_do_not_count() -> None:
    parts = features()
    hidden = torch.zeros(6, dtype=torch.bool)
    hidden[[0, 3, 5]] = True
    found, present = CodeFeatures(parts).channels(everyone(), hidden)
    torch.testing.assert_close(found[4, 2], parts.item[4])  # the one of three that is left
    torch.testing.assert_close(found[3, 2], unit(parts.item[1] + parts.item[2]))
    assert not present[0, 2]  # its only one is hidden
    assert not found[0, 2].any()
    whole, _ = CodeFeatures(parts).channels(everyone())
    assert torch.equal(found[:, [0, 1, 3]], whole[:, [0, 1, 3]])


def test_masked_texts_are_not_shown() -> None:
    parts = features()
    shown = ShownTexts.everything(parts)
    shown.title[0] = shown.description[1] = shown.item[2] = shown.exclusion[0] = False
    found, present = CodeFeatures(parts, shown).channels(everyone())
    whole, _ = CodeFeatures(parts).channels(everyone())
    assert not found[0, 0].any()
    assert not found[1, 1].any()
    assert not present[0, 0]
    assert not present[1, 1]
    torch.testing.assert_close(found[3, 2], parts.item[1])
    torch.testing.assert_close(found[1, 3], parts.exclusion[1])
    untouched = [(4, 0), (3, 1), (4, 2), (0, 1)]
    assert all(torch.equal(found[place], whole[place]) for place in untouched)
    hidden = torch.zeros(6, dtype=torch.bool)
    hidden[1] = True
    _, present = CodeFeatures(parts, shown).channels(everyone(), hidden)
    assert not present[3, 2]  # one masked, one hidden


def test_the_users_texts_count_by_their_number() -> None:
    parts = features()
    code = CodeFeatures(parts)
    found = code.labelled(torch.tensor([4, 0, 1]))
    expected = [
        (parts.labelled[0] + parts.labelled[1]) / 3,
        torch.zeros(32),
        parts.labelled[2] / 2,
    ]
    torch.testing.assert_close(found, torch.stack(expected))
    hidden = torch.tensor([True, False, True])
    found = code.labelled(torch.tensor([4, 0, 1]), hidden)
    torch.testing.assert_close(found[0], parts.labelled[1] / 2)
    assert not found[1:].any()


def test_the_text_direction_is_that_of_what_a_code_is() -> None:
    parts = features()
    channels, present = CodeFeatures(parts).channels(everyone())
    found = text_direction(channels, present)
    expected = [unit(channels[row, :3][present[row, :3]].mean(0)) for row in range(5)]
    torch.testing.assert_close(found, torch.stack(expected))
    other = channels.clone()
    other[:, 3] = torch.randn(5, 32)  # what a code is not has no part in it
    assert torch.equal(text_direction(other, present), found)
    alone = torch.tensor([[False, False, False, True]])
    channels = torch.randn(1, 4, 32)
    torch.testing.assert_close(text_direction(channels, alone), unit(channels[:, 3]))
    nothing = text_direction(channels, torch.zeros(1, 4, dtype=torch.bool))
    assert not nothing.any()


def test_other_texts_are_added_to_the_sum_of_the_channels() -> None:
    channels, present = CodeFeatures(features()).channels(everyone())
    others = torch.randn(5, 32)
    found = text_direction(channels, present, others)
    expected = (channels[:, :3] * present[:, :3, None]).sum(1) + others
    torch.testing.assert_close(found, unit(expected))


def test_a_query_is_the_mean_of_its_texts_by_their_tokens() -> None:
    parts = features()
    first_query, first_labelled = 5 + 6, 5 + 6 + 2
    lengths = torch.arange(1.0, 17.0)
    texts = torch.tensor(
        [
            [2, -1, -1],
            [5 + 3, -1, -1],
            [first_query + 1, -1, -1],
            [first_labelled + 2, -1, -1],
            [first_labelled + 3, 2, first_labelled + 9],  # boilerplate is not among the lengths
            [4, 5 + 4, first_query],
        ]
    )
    found = parts.asked(texts, lengths)
    mixture = parts.title[4] * 5 + parts.item[4] * 10 + parts.query[0] * 12
    singles = [parts.title[2], parts.item[3], parts.query[1], parts.labelled[2], parts.title[2]]
    torch.testing.assert_close(found, torch.stack([*singles, unit(mixture)]))
    assert parts.asked(texts[:0], lengths).shape == (0, 32)


def test_the_mean_of_parts_is_near_to_the_mixture_itself(
    make_encoder: MakeEncoder, store: TokenStore, asked: AskedTexts
) -> None:
    """The tiny encoder mixes tokens little; what is tested is the weighing."""
    encoder = make_encoder().eval()
    parts = compute(encoder, store, asked)
    lengths = torch.tensor([3.0] * 5 + [3, 3, 4, 3, 4, 4])
    found = parts.asked(torch.tensor([[4, 8, 9]]), lengths)
    ids = np.array([2, 8, 6, 7, 8, 3], dtype=np.int32)  # w4, w2, w3 w4
    whole = unit(encoder(Ragged(ids, np.array([6]))))
    assert torch.nn.functional.cosine_similarity(found, whole).item() > 0.8


def test_second_time_is_read_not_computed(
    make_encoder: MakeEncoder,
    store: TokenStore,
    asked: AskedTexts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = make_encoder()
    with torch.no_grad():
        for _, parameter in encoder.lora_parameters():
            parameter.add_(0.3)  # the cache is of the frozen encoder all the same
    reports: list[tuple[int, int]] = []
    first = open_or_compute(
        encoder, store, asked, CONFIG, str(tmp_path), lambda *both: reports.append(both)
    )
    assert reports[-1][0] == reports[-1][1]
    assert reports == sorted(reports)
    expected = compute(make_encoder(), store, asked)
    for name, tensor in vars(expected).items():
        torch.testing.assert_close(getattr(first, name), tensor, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(encoder, "forward", lambda *_, **__: pytest.fail("computed again"))
    again = open_or_compute(encoder, store, asked, CONFIG, str(tmp_path))
    for name, tensor in vars(first).items():
        assert torch.equal(getattr(again, name), tensor)


def test_address_covers_everything_that_matters(asked: AskedTexts) -> None:
    longer = replace(CONFIG, max_tokens=replace(LIMITS, title=9))
    digests = {
        features_digest("d", "q", "b", CONFIG, False),
        features_digest("e", "q", "b", CONFIG, False),
        features_digest("d", "r", "b", CONFIG, False),
        features_digest("d", "q", "c", CONFIG, False),
        features_digest("d", "q", "b", longer, False),
        features_digest("d", "q", "b", CONFIG, True),
    }
    assert len(digests) == 6
    other = {
        asked.digest,
        asked.only_labelled().digest,
        replace(asked, labelled=asked.asked).digest,
        replace(asked, labelled_code=LABELLED_CODE + 1).digest,
    }
    assert len(other) == 4
    assert replace(asked).digest == asked.digest
    assert len(asked.only_labelled().asked.lengths) == 0
    assert asked.only_labelled().labelled is asked.labelled


@pytest.mark.parametrize("damage", ["flip", "truncate", "lose manifest", "lose file", "manifest"])
def test_damaged_cache_is_announced_and_made_again(
    make_encoder: MakeEncoder,
    store: TokenStore,
    asked: AskedTexts,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    encoder = make_encoder()
    good = open_or_compute(encoder, store, asked, CONFIG, str(tmp_path))
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
    again = open_or_compute(encoder, store, asked, CONFIG, str(tmp_path))
    for name, tensor in vars(good).items():
        assert torch.equal(getattr(again, name), tensor)
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warnings == ["features.rebuilt"]
    caplog.clear()
    open_or_compute(encoder, store, asked, CONFIG, str(tmp_path))
    assert not [r for r in caplog.records if r.levelno == logging.WARNING]
