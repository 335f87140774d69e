"""Write an export: every file made and checked in a folder of its own, then put in place."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from naics_job.data.query_tokens import QueryTokenizer
from naics_job.data.tokens import load_tokenizer
from naics_job.export.embeddings import FILE as EMBEDDINGS
from naics_job.export.embeddings import ITEMS, write_embeddings, write_items
from naics_job.export.hub_files import write_encoder
from naics_job.export.lexical import IDF, TABLE, WordProjection
from naics_job.export.model import (
    CARD,
    ENCODER,
    HEAD,
    LEXICAL,
    MODEL,
    SETTINGS,
    WORDS,
    ExportSettings,
)
from naics_job.export.onnx_encoder import OnnxEncoder
from naics_job.export.onnx_export import export_encoder
from naics_job.export.query_graph import export_query
from naics_job.export.ranking import SearchCalibration
from naics_job.export.words import WordIndex
from naics_job.model.embedder import NaicsEmbedder
from naics_job.model.encoder import TextEncoder
from naics_job.model.features import unit
from naics_job.model.tensor_file import write_tensors
from naics_job.model.weights import BaseWeights
from naics_job.storage.files import (
    Manifest,
    copy_into,
    join,
    remove,
    sha256_of,
    write_bytes_atomic,
)
from naics_job.taxonomy.tree import Taxonomy

CHECKED_TEXTS = 64


@dataclass(frozen=True)
class TrainedModel:
    """The network and what it reads texts with."""

    encoder: TextEncoder
    embedder: NaicsEmbedder
    base: BaseWeights
    base_name: str
    max_tokens: int  # that a text is cut to
    title_tokens: int  # up to which it is read as a title


@dataclass(frozen=True)
class Places:
    """Where the codes and their texts stand.

    Attributes:
        taxonomy: the codes.
        points: of the codes `[code, dim + 1]`.
        items: of texts of six-digit codes `[text, dim + 1]`.
        item_codes: positions of their codes `[text]`.
        item_texts: the texts.
        documents: everything that is written about each six-digit code, in the order of the codes.
        curvature: c > 0.
        calibration: of the search.
    """

    taxonomy: Taxonomy
    points: Tensor
    items: Tensor
    item_codes: Sequence[int]
    item_texts: Sequence[str]
    documents: Sequence[str]
    curvature: float
    calibration: SearchCalibration


def write_export(
    folder: str, model: TrainedModel, places: Places, manifest: Manifest, card: str
) -> None:
    """Write everything that a search needs to `folder`, a path or URL.

    An earlier export stays whole until all of the model is made and checked. `naics.json` is
    written last; while it is missing nothing reads the rest.

    Args:
        folder: files of an earlier export in it are replaced.
        model: the trained network.
        places: what it says of the codes.
        manifest: the provenance of the points.
        card: the text of README.md.

    Raises:
        GraphError: a graph computes something else than the network.
    """
    with TemporaryDirectory(prefix="naics-export-") as name:
        scratch = Path(name)
        _make_model(scratch, model, places)
        remove(join(folder, SETTINGS))
        made = sorted(path for path in scratch.rglob("*") if path.is_file())
        files = {path.relative_to(scratch).as_posix(): sha256_of(path) for path in made}
        for target in files:
            copy_into(scratch / target, join(folder, target))
    codes = [places.taxonomy.codes[row] for row in places.item_codes]
    run_id = str(manifest.extra.get("run_id", ""))
    files[EMBEDDINGS] = write_embeddings(
        join(folder, EMBEDDINGS), places.points, places.taxonomy, places.curvature, manifest
    )
    files[ITEMS] = write_items(
        join(folder, ITEMS), codes, places.item_texts, places.items, places.curvature, run_id
    )
    write_bytes_atomic(join(folder, CARD), card.encode())
    settings = ExportSettings(
        run_id=run_id,
        curvature=places.curvature,
        max_tokens=model.max_tokens,
        title_tokens=model.title_tokens,
        calibration=places.calibration,
        source=manifest.source,
        data_sha256=manifest.inputs.get("descriptions", ""),
        base={
            "name": model.base_name,
            "origin": model.base.origin,
            "sha256": model.base.sha256,
        },
        files=files,
    )
    write_bytes_atomic(join(folder, SETTINGS), settings.content())


def _make_model(scratch: Path, model: TrainedModel, places: Places) -> None:
    """Make the files of the folder `model`."""
    (scratch / MODEL).mkdir()
    write_encoder(scratch / MODEL, model.encoder, model.base, model.max_tokens)
    lexical = model.embedder.lexical
    write_tensors(str(scratch / LEXICAL), {TABLE: lexical.table, IDF: lexical.idf})
    write_bytes_atomic(str(scratch / WORDS), WordIndex.of(places.documents).content())
    export_encoder(model.encoder.transformer, scratch / ENCODER)
    _write_head(scratch, model, _some(places))


def _write_head(scratch: Path, model: TrainedModel, texts: Sequence[str]) -> None:
    """Export the head, checked on what it reads of real texts."""
    tokenizer = QueryTokenizer(load_tokenizer(model.base.folder)[0], model.max_tokens)
    tokens = tokenizer(texts)
    ends = np.cumsum(tokens.lengths)
    lists = [part.tolist() for part in np.split(tokens.ids, ends[:-1])]
    features = unit(torch.from_numpy(OnnxEncoder(scratch / ENCODER)(lists))).numpy()
    words = WordProjection.read(scratch / LEXICAL)(tokens)
    long = np.arange(len(texts)) % 2 == 1  # whatever their lengths, both kinds are checked
    export_query(model.embedder, scratch / HEAD, features, words, long)


def _some(places: Places) -> list[str]:
    """Texts to check with: titles, and everything about some codes, as far as it is read."""
    titles = list(places.taxonomy.titles[:CHECKED_TEXTS])
    return titles + list(places.documents[: CHECKED_TEXTS // 8])
