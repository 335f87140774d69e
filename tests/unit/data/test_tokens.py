import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from naics_job.config.data_schema import DataLoaderConfig
from naics_job.config.schema import Config
from naics_job.data.contracts import CHANNELS
from naics_job.data.prepare import NaicsData
from naics_job.data.tokens import Ragged, TokenStore, load_tokenizer
from naics_job.data.triplets import positive_table
from naics_job.errors import DataError
from naics_job.taxonomy.tree import Taxonomy

WORDS = [f"w{number}" for number in range(200)]
CLS, SEP = 1, 2
MAX_TOKENS = 10


@pytest.fixture
def tokenizer_dir(tmp_path: Path) -> Path:
    names = ["[UNK]", "[CLS]", "[SEP]", "a", ";", *WORDS]
    vocabulary = {name: row for row, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", SEP), ("[CLS]", CLS))
    tokenizer.enable_truncation(4)  # a saved tokenizer often cuts and pads
    tokenizer.enable_padding(length=4)
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def words(begin: int, end: int) -> str:
    return " ".join(WORDS[begin:end])


@pytest.fixture
def data() -> NaicsData:
    taxonomy = Taxonomy.from_codes(["11", "111", "1111", "21", "22"], ["t"] * 5)
    texts = {
        "title": [[words(row, row + 3)] for row in range(5)],
        "description": [[words(0, 5), words(5, 8)], [], [words(20, 40)], [words(9, 10)], []],
        "examples": [[words(i, i + 2) for i in range(0, 40, 2)], [], [words(3, 4)], [], []],
        "excluded": [[] for _ in range(5)],
    }
    assert tuple(texts) == CHANNELS
    offsets = np.zeros(6, dtype=np.int64)
    return NaicsData(
        taxonomy=taxonomy,
        texts=texts,
        exclusions=(offsets, np.empty(0, dtype=np.int32)),
        triplets=positive_table(taxonomy),
        source="bundled",
        digest="0" * 64,
    )


@pytest.fixture
def config(make_config: Callable[..., Config]) -> DataLoaderConfig:
    keys = [f"data_loader.tokenization.max_tokens.{name}={MAX_TOKENS}" for name in CHANNELS]
    return make_config("data_loader.streaming.shard_codes=2", *keys).data_loader


@pytest.fixture
def store(data: NaicsData, tokenizer_dir: Path, config: DataLoaderConfig) -> TokenStore:
    return TokenStore.open_or_build(data, tokenizer_dir, config)


def lists(ragged: Ragged) -> list[list[int]]:
    """Its rows."""
    assert ragged.ids.dtype == np.int32
    assert ragged.lengths.sum() == len(ragged.ids)
    return [part.tolist() for part in np.split(ragged.ids, np.cumsum(ragged.lengths)[:-1])]


def encoded(tokenizer_dir: Path, text: str) -> list[int]:
    """What the tokenizer itself makes of `text`, cut to the limit."""
    tokenizer = load_tokenizer(tokenizer_dir)[0]
    tokenizer.enable_truncation(MAX_TOKENS)
    return list(tokenizer.encode(text).ids)


def test_a_whole_text_is_what_the_tokenizer_makes_of_its_segments_in_a_row(
    store: TokenStore, data: NaicsData, tokenizer_dir: Path
) -> None:
    for channel in CHANNELS:
        whole = [" ".join(segments) for segments in data.texts[channel]]
        expected = [encoded(tokenizer_dir, text) if text else [] for text in whole]
        assert lists(store.texts(channel)) == expected
    assert max(store.texts("examples").lengths) == MAX_TOKENS


def test_a_single_text_is_what_the_tokenizer_makes_of_one_segment(
    store: TokenStore, data: NaicsData, tokenizer_dir: Path
) -> None:
    for channel in CHANNELS[:3]:
        flat = [text for segments in data.texts[channel] for text in segments]
        expected = [encoded(tokenizer_dir, text) for text in flat]
        assert lists(store.single_texts(channel)) == expected
    assert max(store.single_texts("description").lengths) == MAX_TOKENS
    assert len(store.single_texts("excluded").lengths) == 0


def test_missing_channels_have_length_zero(store: TokenStore) -> None:
    assert store.texts("excluded").lengths.tolist() == [0] * 5
    assert store.texts("description").lengths.tolist() == [10, 0, 10, 3, 0]


def test_special_tokens_are_those_of_the_tokenizer(store: TokenStore) -> None:
    assert (store.special.before, store.special.after) == ([CLS], [SEP])
    assert store.vocabulary_size == 5 + len(WORDS)
    found = store.special.around(
        np.arange(50, 60, dtype=np.int32), np.array([3, 0, 9]), np.array([5, 0, 1]), 6
    )
    assert lists(found) == [[CLS, 53, 54, 55, 56, SEP], [], [CLS, 59, SEP]]


def test_counts(store: TokenStore) -> None:
    assert store.num_tokens == {"title": 15, "description": 29, "examples": 41, "excluded": 0}


def test_the_store_is_opened_not_built_again(
    store: TokenStore,
    data: NaicsData,
    tokenizer_dir: Path,
    config: DataLoaderConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert len(list(Path(config.streaming.token_dir).glob("*/shard-*.safetensors"))) == 3
    monkeypatch.delattr("naics_job.data.tokens._build")
    again = TokenStore.open_or_build(data, tokenizer_dir, config)
    assert again.digest == store.digest
    assert lists(again.single_texts("examples")) == lists(store.single_texts("examples"))


def test_shards_in_a_row_read_like_one(
    store: TokenStore,
    data: NaicsData,
    tokenizer_dir: Path,
    config: DataLoaderConfig,
) -> None:
    streaming = replace(config.streaming, shard_codes=100)
    whole = TokenStore.open_or_build(data, tokenizer_dir, replace(config, streaming=streaming))
    for channel in CHANNELS:
        assert lists(store.texts(channel)) == lists(whole.texts(channel))
        assert lists(store.single_texts(channel)) == lists(whole.single_texts(channel))
    assert whole.num_tokens == store.num_tokens


def test_a_store_without_sizes_is_read(
    store: TokenStore, data: NaicsData, tokenizer_dir: Path, config: DataLoaderConfig
) -> None:
    """As earlier versions wrote them."""
    (file,) = Path(config.streaming.token_dir).glob("*/manifest.json")
    manifest = json.loads(file.read_text())
    manifest["shards"] = {name: entry["sha256"] for name, entry in manifest["shards"].items()}
    file.write_text(json.dumps(manifest))
    again = TokenStore.open_or_build(data, tokenizer_dir, config)
    assert lists(again.single_texts("examples")) == lists(store.single_texts("examples"))


def test_a_shard_of_another_layout_is_refused(
    store: TokenStore, data: NaicsData, tokenizer_dir: Path, config: DataLoaderConfig
) -> None:
    (file,) = Path(config.streaming.token_dir).glob("*/manifest.json")
    shard = file.with_name("shard-00001.safetensors")
    manifest = json.loads(file.read_text())
    for content in (b"no safetensors", shard.read_bytes().replace(b'"I32"', b'"F32"')):
        shard.write_bytes(content)
        entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        manifest["shards"][shard.name] = entry
        file.write_text(json.dumps(manifest))
        with pytest.raises(DataError, match=r"shard-00001\.safetensors cannot be read"):
            TokenStore.open_or_build(data, tokenizer_dir, config)


def test_other_texts_or_another_tokenizer_give_another_store(
    store: TokenStore, data: NaicsData, tokenizer_dir: Path, config: DataLoaderConfig
) -> None:
    other_texts = TokenStore.open_or_build(replace(data, digest="1" * 64), tokenizer_dir, config)
    path = tokenizer_dir / "tokenizer.json"
    path.write_text(path.read_text().replace('"w199"', '"w200"'))
    other_tokenizer = TokenStore.open_or_build(data, tokenizer_dir, config)
    assert len({store.digest, other_texts.digest, other_tokenizer.digest}) == 3
    assert len(list(Path(config.streaming.token_dir).iterdir())) == 3


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda path: path.write_bytes(path.read_bytes()[:-8]),
        lambda path: path.unlink(),
        lambda path: (path.parent / "manifest.json").write_text("{"),
        lambda path: (path.parent / "manifest.json").write_text('{"shards": {}, "num_codes": 4}'),
    ],
    ids=["flipped", "truncated", "missing", "manifest", "count"],
)
def test_damage_names_the_file_and_the_folder_to_delete(
    damage: Callable[[Path], object],
    store: TokenStore,
    data: NaicsData,
    tokenizer_dir: Path,
    config: DataLoaderConfig,
) -> None:
    folder = next(Path(config.streaming.token_dir).iterdir())
    damage(folder / "shard-00001.safetensors")
    with pytest.raises(DataError, match=r"shard-00001.safetensors|manifest.json") as error:
        TokenStore.open_or_build(data, tokenizer_dir, config)
    assert error.value.exit_code == 65
    assert str(folder) in error.value.hint


@pytest.mark.parametrize(
    ("content", "message"), [(None, "missing"), ("{", "damaged"), ("[]", "not a tokenizer")]
)
def test_bad_tokenizers_are_refused(
    content: str | None,
    message: str,
    data: NaicsData,
    tokenizer_dir: Path,
    config: DataLoaderConfig,
) -> None:
    path = tokenizer_dir / "tokenizer.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(DataError, match=message):
        TokenStore.open_or_build(data, tokenizer_dir, config)
