"""The trained model as files that run no code, read without torch: texts in, points out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from naics_job.data.query_tokens import QueryTokenizer
from naics_job.data.tokens import Ragged, parse_tokenizer
from naics_job.errors import DataError
from naics_job.export.embeddings import EXPORT_AGAIN
from naics_job.export.lexical import WordProjection
from naics_job.export.onnx_encoder import Array, OnnxEncoder
from naics_job.export.onnx_query import QueryHead
from naics_job.export.ranking import Certainty, SearchCalibration
from naics_job.export.words import WordIndex
from naics_job.storage.files import fetch, join, read_bytes, sha256_of

VERSION = 1  # of the files and what they mean
SETTINGS, CARD = "naics.json", "README.md"
MODEL = "model"
ENCODER, HEAD = f"{MODEL}/encoder.onnx", f"{MODEL}/query.onnx"
LEXICAL, WORDS = f"{MODEL}/lexical.safetensors", f"{MODEL}/words.safetensors"
TOKENIZER = f"{MODEL}/tokenizer.json"
SMALLEST_LENGTH = 1e-12


@dataclass(frozen=True)
class ExportSettings:
    """naics.json: what the other files are and how they are used.

    Attributes:
        run_id: of the training.
        curvature: c > 0.
        max_tokens: that a text is cut to.
        title_tokens: up to which a text is read as a title.
        calibration: of the search.
        source: census | bundled, where the texts of the codes come from.
        data_sha256: of the table of descriptions.
        base: name, origin and sha256 of the encoder that was trained on.
        files: name of each file -> its sha256.
    """

    run_id: str
    curvature: float
    max_tokens: int
    title_tokens: int
    calibration: SearchCalibration
    source: str
    data_sha256: str
    base: Mapping[str, str]
    files: Mapping[str, str]

    def content(self) -> bytes:
        """The file."""
        return (json.dumps({"version": VERSION, **asdict(self)}, indent=2) + "\n").encode()

    @classmethod
    def read(cls, folder: str) -> "ExportSettings":
        """From an export.

        Raises:
            DataError: there is none, or it is damaged or of another version.
        """
        try:
            raw: dict[str, Any] = json.loads(read_bytes(join(folder, SETTINGS)))
            if (version := raw.pop("version")) != VERSION:
                raise ValueError(f"it is of version {version}, not {VERSION}")
            raw["calibration"] = _calibration(raw["calibration"])
            for name in ("curvature", "max_tokens", "title_tokens"):
                if not raw[name] > 0:
                    raise ValueError(f"{name} is {raw[name]}")
            return cls(**raw)
        except DataError as error:
            raise DataError(f"{error.args[0]}: no exported model", EXPORT_AGAIN) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            text = f"{folder} holds no exported model that can be used: {SETTINGS}: {reason}"
            raise DataError(text, EXPORT_AGAIN) from error


@dataclass(frozen=True)
class Placed:
    """Texts that have been read.

    Attributes:
        points: `[text, dim + 1]` float32.
        long: whether each is read as a description `[text]` bool.
    """

    points: Array
    long: Array


@dataclass(frozen=True)
class LoadedModel:
    """A trained model, ready to place texts without torch."""

    settings: ExportSettings
    tokenizer: QueryTokenizer
    encoder: OnnxEncoder
    projection: WordProjection
    head: QueryHead
    words: WordIndex | None

    def embed(self, texts: Sequence[str]) -> Array:
        """Points `[text, dim + 1]` float32 of free texts.

        Raises:
            DataError: a text has no word.
        """
        return self.place(self.tokenizer.asked(texts)).points

    def place(self, tokens: Ragged) -> Placed:
        """Where the tokens of texts stand, all of at least one word."""
        ends = np.cumsum(tokens.lengths)
        lists = [part.tolist() for part in np.split(tokens.ids, ends[:-1])]
        features = self.encoder(lists)
        length = np.sqrt(np.square(features).sum(axis=1, keepdims=True))
        long = tokens.lengths > self.settings.title_tokens
        words = self.projection(tokens)
        points = self.head(features / np.maximum(length, SMALLEST_LENGTH), words, long)
        return Placed(points, long)


def load_model(
    folder: str, cache_dir: Path, lexical: bool = False, num_threads: int | None = None
) -> LoadedModel:
    """Read an export.

    Args:
        folder: path or URL; `naics.json` is in it.
        cache_dir: where the files of a remote export are kept.
        lexical: read what `--lexical` needs too.
        num_threads: of the encoder; None: one per core.

    Raises:
        DataError: a file is missing or damaged, or the files do not belong together.
    """
    settings = ExportSettings.read(folder)

    def local(name: str) -> Path:
        return checked(folder, name, settings, cache_dir)

    tokenizer = local(TOKENIZER)
    parsed = parse_tokenizer(tokenizer.read_bytes(), str(tokenizer), EXPORT_AGAIN)
    return LoadedModel(
        settings=settings,
        tokenizer=QueryTokenizer(parsed, settings.max_tokens),
        encoder=OnnxEncoder(local(ENCODER), num_threads),
        projection=WordProjection.read(local(LEXICAL)),
        head=QueryHead(local(HEAD), num_threads),
        words=WordIndex.read(local(WORDS)) if lexical else None,
    )


def checked(folder: str, name: str, settings: ExportSettings, cache_dir: Path) -> Path:
    """A local file with the content that the export was written with.

    Raises:
        DataError: it is missing, or has another content.
    """
    url = join(folder, name)
    try:
        path = fetch(url, cache_dir)
    except DataError as error:
        raise DataError(str(error.args[0]), EXPORT_AGAIN) from error
    if sha256_of(path) != settings.files.get(name):
        message = f"{url} is damaged: its sha256 is not the one in {SETTINGS}"
        raise DataError(message, f"{EXPORT_AGAIN}, or restore the file")
    return path


def _calibration(raw: Mapping[str, Any]) -> SearchCalibration:
    weights = tuple(float(weight) for weight in raw["item_weight"])
    plain, lexical = (_certainty(raw[key], len(weights)) for key in ("plain", "lexical"))
    return SearchCalibration(weights, plain, lexical, float(raw["lexical_weight"]))


def _certainty(raw: Mapping[str, Any], kinds: int) -> Certainty:
    slopes, lines = (
        tuple((float(one), float(other)) for one, other in raw[key])
        for key in ("slope", "first_answer")
    )
    if not kinds or not len(slopes) == len(lines) == kinds:
        raise ValueError("the calibration is not of as many kinds of queries")
    return Certainty(slopes, lines)
