"""Checks that cost seconds and save hours: said before the first step, or stopping it."""

import logging

from naics_job.config.length import RunLength
from naics_job.config.schema import Config
from naics_job.data.contracts import CHANNELS
from naics_job.data.datamodule import NaicsDataModule
from naics_job.data.prepare import NaicsData
from naics_job.data.tokens import TokenStore
from naics_job.errors import CheckpointError, ConfigError, DataError
from naics_job.evaluation.metrics import METRICS
from naics_job.observability.logs import event
from naics_job.storage.capabilities import Capabilities, probe
from naics_job.storage.files import free_bytes, local_path, make_dir, remove, write_bytes_atomic
from naics_job.storage.files import join as join_path
from naics_job.training.module import NaicsModule

log = logging.getLogger(__name__)
WHOLE = ("title", "description")  # channels of one text per code
NEEDED_BYTES = 500_000_000  # checkpoints, logs and exports of one run, with room to spare


def check_folders(config: Config) -> None:
    """Refuse folders that cannot be written, before anything is computed for them.

    Raises:
        ConfigError: a folder of `dirs.*` cannot be written, or its disk is nearly full.
    """
    for key in ("data_dir", "log_dir", "output_dir", "checkpoint_dir"):
        _check_folder(f"dirs.{key}", getattr(config.dirs, key))


def check_store(root_url: str) -> Capabilities:
    """Try the checkpoint store before anything else is done, and return what it can do.

    Raises:
        CheckpointError: a request that a run will make is refused.
        ConfigError: a local folder cannot be written; the URL or the endpoint cannot be.
        TransientError: as `storage.capabilities.probe`.
    """
    if (path := local_path(root_url)) is not None:
        _check_folder("dirs.checkpoint_dir", str(path.parent))  # the lease is written there first
        return Capabilities(conditional_create=True)
    try:
        return probe(root_url)
    except DataError as error:
        text = f"the checkpoint store dirs.checkpoint_dir does not serve: {error.args[0]}"
        raise CheckpointError(text, error.hint) from error


def check_run(
    config: Config,
    data: NaicsData,
    tokens: TokenStore,
    datamodule: NaicsDataModule,
) -> None:
    """Refuse what cannot work.

    Raises:
        DataError: a code has no text at all.
        ConfigError: early stopping watches a metric that is not evaluated.
    """
    _check_texts(data)
    if config.training.early_stopping.enabled:
        _check_metric(config.training.early_stopping.metric, len(datamodule.splits.validation) > 0)
    counts = {channel: num_cut_texts(tokens, channel) for channel in CHANNELS}
    if any(counts.values()):
        advice = "raise data_loader.tokenization.max_tokens.* to read them to their end"
        event(log, logging.INFO, "preflight.texts_cut", **counts, advice=advice)


def num_cut_texts(tokens: TokenStore, channel: str) -> int:
    """How many texts of a channel have more tokens than `max_tokens` lets through.

    A title and a description are read as one text; index items and exclusions one by one.
    """
    segments = tokens.segments[channel]
    _, lengths = segments.whole() if channel in WHOLE else segments.single()
    special = len(tokens.special.before) + len(tokens.special.after)
    return int((lengths + special > tokens.max_tokens[channel]).sum())


def warn_of_plan(config: Config, module: NaicsModule, length: RunLength) -> None:
    """Say what in the settings will not happen in a run of this length."""
    first = module.lora_first_step
    problems = module.curriculum.preflight(length)
    start = config.model.lora.start_phase
    if start is not None and (first is None or first >= length.total_steps):
        problems.append(
            f"the LoRA adapters never train: model.lora.start_phase={start}, but no step of this "
            f"run is in phase {start} or later"
        )
    for problem in problems:
        event(log, logging.WARNING, "preflight.curriculum", problem=problem)


def _check_metric(metric: str, has_heldout: bool) -> None:
    parts = ("all", "heldout") if has_heldout else ("all",)
    known = [f"{part}/{name}" for part in parts for name in METRICS]
    if metric not in known:
        raise ConfigError(
            f"training.early_stopping.metric={metric!r} is not evaluated",
            f"choose one of {', '.join(known)}",
        )


def _check_texts(data: NaicsData) -> None:
    for position, code in enumerate(data.taxonomy.codes):
        if not any(channel[position] for channel in data.texts.values()):
            raise DataError(
                f"code {code} has no text in any channel",
                "prepare the data again: naics-embedder data all --force",
            )


def _check_folder(key: str, url: str) -> None:
    probe = join_path(url, ".write-probe")
    try:
        make_dir(url)
        write_bytes_atomic(probe, b"")
        remove(probe)
    except DataError as error:
        raise ConfigError(
            f"{key}={url} cannot be written: {error.args[0]}",
            f"set {key} to a folder this user can write",
        ) from error
    free = free_bytes(url)
    if free is not None and free < NEEDED_BYTES:
        raise ConfigError(
            f"{key}={url} has {free / 1e6:.0f} MB left, a run needs {NEEDED_BYTES / 1e6:.0f} MB",
            f"free some space or set {key} to another disk",
        )
