"""All tables in order, and what training reads of them."""

from dataclasses import dataclass, field

import pyarrow as pa

from naics_job.config.schema import Config
from naics_job.data.contracts import (
    CHANNELS,
    DESCRIPTIONS,
    REBUILD,
    TRIPLETS,
    BuildResult,
    read_table,
)
from naics_job.data.derive import current_descriptions, taxonomy_of
from naics_job.data.distances import build_distances, exclusion_lists
from naics_job.data.preprocess import build_preprocess
from naics_job.data.relations import build_relations
from naics_job.data.sentences import split_sentences
from naics_job.data.triplets import PositiveTable, build_triplets, positives_from
from naics_job.errors import DataError
from naics_job.storage.files import read_manifest
from naics_job.storage.node_cache import NodeCache
from naics_job.taxonomy.tree import IntArray, Taxonomy


@dataclass(frozen=True, eq=False)
class NaicsData:
    """The taxonomy with its texts, exclusions and positives.

    Attributes:
        texts: channel -> per code the segments of its text: the title, the sentences of the
            description, the items of the examples, the sentences of the exclusions. An empty list
            is a missing channel.
        exclusions: offsets `[code + 1]` and positions `[n]` of the codes each code excludes.
        source: census | bundled.
        digest: sha256 of the table of descriptions.
        queries: position and text of the index items that `texts` lacks; none when bundled.
    """

    taxonomy: Taxonomy
    texts: dict[str, list[list[str]]]
    exclusions: tuple[IntArray, IntArray]
    triplets: PositiveTable
    source: str
    digest: str
    queries: list[tuple[int, str]] = field(default_factory=list)


def prepare_all(config: Config, force: bool = False) -> list[BuildResult]:
    """Build what is missing or out of date: descriptions, relations, distances, triplets."""
    builders = (build_preprocess, build_relations, build_distances, build_triplets)
    return [build(config, force=force) for build in builders]


def load_dataset(config: Config) -> NaicsData:
    """Read the tables that training needs.

    Raises:
        DataError: a table is missing, damaged, of other settings or made from another table.
    """
    manifest = current_descriptions(config)
    streaming = config.data_loader.streaming
    cache = NodeCache.of(streaming)  # not in use any more when this returns: tables are copied
    descriptions = read_table(streaming.descriptions, DESCRIPTIONS, cache)
    triplets = read_table(streaming.triplets, TRIPLETS, cache)
    _check_belongs(streaming.triplets, manifest.sha256)
    taxonomy = taxonomy_of(descriptions)
    if list(taxonomy.codes) != descriptions["code"].to_pylist():
        raise DataError(f"{streaming.descriptions} is not in taxonomy order", REBUILD)
    return NaicsData(
        taxonomy=taxonomy,
        texts=_segments(descriptions),
        exclusions=exclusion_lists(taxonomy, descriptions["excluded_codes"].to_pylist()),
        triplets=positives_from(triplets, len(taxonomy)),
        source=manifest.source,
        digest=manifest.sha256,
        queries=[
            (position, text)
            for position, texts in enumerate(descriptions["queries"].to_pylist())
            for text in texts
        ],
    )


def _check_belongs(url: str, descriptions_sha256: str) -> None:
    manifest = read_manifest(url)
    if manifest is None or manifest.inputs.get(DESCRIPTIONS.name) != descriptions_sha256:
        raise DataError(f"{url} was made from another table of descriptions", REBUILD)


def _segments(descriptions: pa.Table) -> dict[str, list[list[str]]]:
    texts = {
        "title": [[title] for title in descriptions["title"].to_pylist()],
        "description": [split_sentences(t) for t in descriptions["description"].to_pylist()],
        "examples": descriptions["examples"].to_pylist(),
        "excluded": descriptions["excluded"].to_pylist(),
    }
    assert tuple(texts) == CHANNELS
    return texts
