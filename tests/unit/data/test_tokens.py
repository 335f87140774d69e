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
from naics_job.data.tokens import TokenStore
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


def ids(begin: int, end: int) -> list[int]:
    return list(range(begin + 5, end + 5))


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


def rows(store: TokenStore, channel: str, positions: list[int], view: int) -> list[list[int]]:
    ragged = store.view(channel, np.array(positions), view)
    assert ragged.ids.dtype == np.int32
    assert ragged.lengths.sum() == len(ragged.ids)
    return [part.tolist() for part in np.split(ragged.ids, np.cumsum(ragged.lengths)[:-1])]


def test_texts_that_fit_are_whole_and_equal_in_all_views(store: TokenStore) -> None:
    expected = [[CLS, *ids(2, 5), SEP], [CLS, *ids(0, 3), SEP], [CLS, *ids(2, 5), SEP]]
    for view in range(4):
        assert rows(store, "title", [2, 0, 2], view) == expected
        assert rows(store, "description", [0, 1], view) == [[CLS, *ids(0, 8), SEP], []]
    assert rows(store, "examples", [2], 0) == [[CLS, *ids(3, 4), 4, SEP]]  # items end in ";"


def test_missing_channels_have_length_zero(store: TokenStore) -> None:
    ragged = store.view("excluded", np.arange(5), 1)
    assert ragged.lengths.tolist() == [0] * 5
    assert len(store.view("title", np.array([], dtype=np.int64), 0).ids) == 0


def test_long_texts_are_cut_in_view_0_and_sampled_in_others(store: TokenStore) -> None:
    assert store.is_long("description").tolist() == [False, False, True, False, False]
    assert store.is_long("examples").tolist() == [True, False, False, False, False]
    assert rows(store, "description", [2], 0) == [[CLS, *ids(20, 28), SEP]]
    views = [rows(store, "examples", [2, 0, 1], view) for view in range(1, 6)]
    for short, long, missing in views:
        assert short == [CLS, *ids(3, 4), 4, SEP]
        assert missing == []
        assert len(long) <= MAX_TOKENS
        assert (long[0], long[-1]) == (CLS, SEP)
        assert [token for token in long[1:-1] if token > 4] == sorted(long[1:-1])[long.count(4) :]
    assert len({tuple(view[1]) for view in views}) > 1
    swapped = [rows(store, "examples", [0, 2], view) for view in range(1, 6)]
    assert swapped == [[view[1], view[0]] for view in views]
    again = [rows(store, "examples", [0], view)[0] for view in range(1, 6)]
    assert again == [view[1] for view in views]


def test_counts(store: TokenStore) -> None:
    assert store.num_tokens == {"title": 15, "description": 29, "examples": 62, "excluded": 0}


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
    assert rows(again, "examples", [0, 2], 3) == rows(store, "examples", [0, 2], 3)


def test_shards_in_a_row_read_like_one(
    store: TokenStore,
    data: NaicsData,
    tokenizer_dir: Path,
    config: DataLoaderConfig,
) -> None:
    streaming = replace(config.streaming, shard_codes=100)
    whole = TokenStore.open_or_build(data, tokenizer_dir, replace(config, streaming=streaming))
    for channel in CHANNELS:
        for positions in ([0, 1, 2, 3, 4], [4, 0, 2, 2], [3]):
            expected = rows(whole, channel, positions, 0)
            assert rows(store, channel, positions, 0) == expected
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
    assert rows(again, "examples", [0, 2], 3) == rows(store, "examples", [0, 2], 3)


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
