"""When a table is up to date, and how the tables that follow from the descriptions are built."""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict

import pyarrow as pa

from naics_job.config.data_schema import DataConfig
from naics_job.config.schema import Config
from naics_job.data.contracts import (
    DESCRIPTIONS,
    PREPARE,
    BuildResult,
    TableContract,
    check_content,
    read_table,
    write_table,
)
from naics_job.errors import DataError
from naics_job.observability.logs import event
from naics_job.storage.files import Manifest, exists, read_manifest
from naics_job.taxonomy.tree import Taxonomy

log = logging.getLogger(__name__)

RECIPE = 1  # grows when the same inputs and settings give other texts


def data_config_hash(config: DataConfig) -> str:
    """Sha256 of the settings that decide the content of the tables.

    `data.source` is left out: a table made from the Census also serves `auto`, see `satisfies`.
    """
    settings = {
        "recipe": RECIPE,
        "census_url": config.census_url,
        "workbooks": asdict(config.workbooks),
        "sectors": list(config.sectors),
        "max_codes": config.max_codes,
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def satisfies(manifest: Manifest, config: DataConfig) -> bool:
    """Whether a table of descriptions is what `data.source` and the other settings ask for.

    `auto` takes a Census table, or a bundled one that an earlier `auto` had to fall back to: asking
    the Census again at each start would change the data under a run that is resumed.
    """
    if manifest.config_hash != data_config_hash(config):
        return False
    if config.source == "auto":
        return manifest.source == "census" or manifest.extra.get("requested") == "auto"
    return manifest.source == config.source


def current_descriptions(config: Config) -> Manifest:
    """The manifest of the table of descriptions, which must fit the settings.

    Raises:
        DataError: there is none, or it was made with other settings.
    """
    url = config.data_loader.streaming.descriptions
    manifest = read_manifest(url)
    if manifest is None or not exists(url):
        raise DataError(f"there is no table of descriptions at {url}", PREPARE)
    if not satisfies(manifest, config.data):
        raise DataError(
            f"{url} was made from source {manifest.source} with other data settings",
            f"{PREPARE} with the present settings, or set those it was made with",
        )
    return manifest


def is_current(
    url: str, contract: TableContract, inputs: dict[str, str], config_hash: str
) -> Manifest | None:
    """The manifest of a table that needs no work, None when it must be (re)built.

    Raises:
        DataError: the table should be current but its content is not what the manifest says.
    """
    manifest = read_manifest(url)
    if manifest is None or not exists(url):
        return None
    same = (contract.version, inputs, config_hash)
    if (manifest.schema_version, manifest.inputs, manifest.config_hash) != same:
        return None
    check_content(url, manifest)
    return manifest


def report(url: str, manifest: Manifest, *, rebuilt: bool, started: float) -> BuildResult:
    """Log and return what became of a table; `started` is the `perf_counter` of its begin."""
    seconds = time.perf_counter() - started
    fields = {"url": url, "rows": manifest.rows, "source": manifest.source}
    if not rebuilt:
        event(log, logging.INFO, "data.up_to_date", **fields)
    return BuildResult(url, manifest.rows, rebuilt, manifest.source, seconds)


def derive(
    config: Config,
    contract: TableContract,
    make: Callable[[Taxonomy, pa.Table], pa.Table],
    *,
    force: bool,
) -> BuildResult:
    """Build the table `contract.name` from the table of descriptions unless it is up to date.

    Raises:
        DataError: the descriptions are missing, damaged, or were made with other settings.
    """
    started = time.perf_counter()
    url = str(getattr(config.data_loader.streaming, contract.name))
    above = current_descriptions(config)
    inputs = {DESCRIPTIONS.name: above.sha256}
    known = None if force else is_current(url, contract, inputs, above.config_hash)
    if known is None:
        table = read_table(config.data_loader.streaming.descriptions, DESCRIPTIONS)
        taxonomy = taxonomy_of(table)
        known = write_table(
            url,
            make(taxonomy, table),
            contract,
            source=above.source,
            inputs=inputs,
            config_hash=above.config_hash,
        )
        return report(url, known, rebuilt=True, started=started)
    return report(url, known, rebuilt=False, started=started)


def taxonomy_of(descriptions: pa.Table) -> Taxonomy:
    """The tree over the codes of the table of descriptions."""
    return Taxonomy.from_codes(descriptions["code"].to_pylist(), descriptions["title"].to_pylist())
