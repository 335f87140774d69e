"""`data preprocess`: choose the source, cut the slice, write one row per code."""

import functools
import hashlib
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from naics_job.config.data_schema import DataConfig
from naics_job.config.schema import Config
from naics_job.data.census import ATTEMPTS, fetch_workbooks, read_tables, workbook_urls
from naics_job.data.channels import CodeText, census_channels
from naics_job.data.composed import composed_channels
from naics_job.data.contracts import DESCRIPTIONS, BuildResult, write_table
from naics_job.data.derive import data_config_hash, is_current, report, satisfies
from naics_job.data.queries import hold_out_queries
from naics_job.errors import ConfigError, DataError, TransientError
from naics_job.observability.logs import event
from naics_job.storage.files import Manifest, exists, local_path, read_manifest, sha256_of
from naics_job.taxonomy.codes import bundled_titles, level_of, parent_of, sector_of
from naics_job.taxonomy.tree import Taxonomy

log = logging.getLogger(__name__)

CODES_PER_SECTOR = 30  # of a slice: fewer hold no six-digit families worth the name
SIX_DIGITS = 6


def build_preprocess(config: Config, *, force: bool = False) -> BuildResult:
    """Write the table of descriptions unless it is up to date.

    Raises:
        DataError: a workbook is missing, damaged or contradicts itself; the table is damaged.
        TransientError: `data.source` is census and its host cannot be reached.
        ConfigError: `data.sectors` names a sector that does not exist.
    """
    started = time.perf_counter()
    url = config.data_loader.streaming.descriptions
    known = None if force else _up_to_date(url, config.data)
    if known is not None:
        return report(url, known, rebuilt=False, started=started)
    source, rows, inputs = read_source(config.data)
    rows = cut_slice(rows, config.data.sectors, config.data.max_codes)
    manifest = write_table(
        url,
        description_table(rows),
        DESCRIPTIONS,
        source=source,
        inputs=inputs,
        config_hash=data_config_hash(config.data),
        extra={
            "requested": config.data.source,
            "sectors": list(config.data.sectors),
            "max_codes": config.data.max_codes,
        },
    )
    return report(url, manifest, rebuilt=True, started=started)


def _up_to_date(url: str, config: DataConfig) -> Manifest | None:
    manifest = read_manifest(url)
    if manifest is None or not exists(url) or not satisfies(manifest, config):
        return None
    inputs = manifest.inputs
    if manifest.source == "bundled":
        inputs = dict(_bundled()[1])
        if config.source == "auto":
            event(
                log,
                logging.WARNING,
                "data.source_is_bundled",
                meaning="an earlier run could not reach the Census; texts are composed from titles",
                retry="naics-embedder data all --force",
            )
    elif local_path(config.census_url) is not None:
        workbooks = workbook_urls(config)
        if all(exists(workbook) for workbook in workbooks.values()):
            inputs = {name: sha256_of(workbook) for name, workbook in workbooks.items()}
        else:  # a prepared table is enough to train on
            event(log, logging.WARNING, "data.workbooks_gone", url=config.census_url, kept=url)
    # workbooks behind a URL are taken as unchanged: a published year does not change, and a start
    # must not depend on that host
    return is_current(url, DESCRIPTIONS, inputs, manifest.config_hash)


def read_source(config: DataConfig) -> tuple[str, list[CodeText], dict[str, str]]:
    """Source name, rows in the order of the code table, and the sha256 of each input.

    With `auto`, a remote host that cannot serve the workbooks is replaced by the bundled table. A
    local folder that lacks one is an error: it was named on purpose.
    """
    if config.source == "bundled":
        return _read_bundled()
    remote = local_path(config.census_url) is None
    attempts = 1 if config.source == "auto" else ATTEMPTS
    with TemporaryDirectory(prefix="naics-") as folder:
        try:
            paths = fetch_workbooks(config, Path(folder), attempts)
        except (TransientError, DataError) as error:
            if config.source != "auto" or not remote:
                raise
            event(
                log,
                logging.WARNING,
                "data.census_unreachable",
                census_url=config.census_url,
                reason=str(error.args[0]),
                instead="the bundled code table, with texts composed from titles",
            )
            return _read_bundled()
        rows = hold_out_queries(census_channels(read_tables(paths)))
        return "census", rows, {key: sha256_of(path) for key, path in paths.items()}


def _read_bundled() -> tuple[str, list[CodeText], dict[str, str]]:
    rows, inputs = _bundled()
    return "bundled", list(rows), dict(inputs)


@functools.cache
def _bundled() -> tuple[list[CodeText], dict[str, str]]:
    """The composed texts and their sha256; that of the titles would not tell a release that
    composes them in another way.
    """
    codes, titles = zip(*bundled_titles(), strict=True)
    rows = composed_channels(Taxonomy.from_codes(codes, titles))
    text = json.dumps([asdict(row) for row in rows])
    return rows, {"bundled": hashlib.sha256(text.encode()).hexdigest()}


def cut_slice(
    rows: Sequence[CodeText], sectors: Sequence[str], max_codes: int | None
) -> list[CodeText]:
    """Rows in taxonomy order, restricted to a smaller taxonomy that is still a tree.

    `max_codes` is shared out over the first max_codes // 30 sectors. Each gives a prefix of its
    codes in depth-first order, which holds every parent, without a last branch that was cut before
    it reached six digits. What a small sector leaves over goes to the larger ones.
    """
    by_sector: dict[str, list[CodeText]] = {}
    for row in sorted(rows, key=lambda row: row.code):  # depth-first: a parent's digits come first
        by_sector.setdefault(sector_of(row.code), []).append(row)
    wanted = {sector_of(sector) for sector in sectors} if sectors else set(by_sector)
    if unknown := wanted - set(by_sector):
        raise ConfigError(
            f"data.sectors={sorted(unknown)!r} are no sectors of the code table",
            f"choose from {', '.join(sorted(by_sector))}",
        )
    groups = [by_sector[name] for name in sorted(wanted)]
    if max_codes is not None:
        groups = groups[: max(1, max_codes // CODES_PER_SECTOR)]
        room = max_codes
        by_size = sorted(range(len(groups)), key=lambda index: len(groups[index]))
        for turn, index in enumerate(by_size):
            share = room // (len(groups) - turn)
            groups[index] = _whole_branches(groups[index][:share])
            room -= len(groups[index])
    kept = [row for group in groups for row in group]
    inside = {row.code for row in kept}
    return [
        replace(row, excluded_codes=[code for code in row.excluded_codes if code in inside])
        for row in kept
    ]


def _whole_branches(rows: list[CodeText]) -> list[CodeText]:
    last = max((i for i, row in enumerate(rows) if level_of(row.code) == SIX_DIGITS), default=-1)
    return rows[: last + 1]


def description_table(rows: Sequence[CodeText]) -> pa.Table:
    """The table of the DESCRIPTIONS contract; checks that the codes form a tree."""
    Taxonomy.from_codes([row.code for row in rows], [row.title for row in rows])
    columns: dict[str, list[object]] = {
        name: [getattr(row, name) for row in rows]
        for name in DESCRIPTIONS.schema.names
        if name not in ("level", "parent")
    }
    columns["level"] = [level_of(row.code) for row in rows]
    columns["parent"] = [parent_of(row.code) for row in rows]
    return pa.table(
        {name: columns[name] for name in DESCRIPTIONS.schema.names}, DESCRIPTIONS.schema
    )
