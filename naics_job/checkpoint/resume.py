"""Decide from --ckpt-path what a run starts from, and say why.

last         newest checkpoint of the experiment that verifies; none is an error
auto         as last, else fresh; never fresh beside checkpoints that are all broken; a run that is
             finished is not started again
FILE or URL  warm start: a new run with the weights of that file
nothing      fresh: a new run; checkpoints that are there are neither used nor touched
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from naics_job.checkpoint.catalogue import Catalogue
from naics_job.checkpoint.manifest import (
    MANIFEST_SUFFIX,
    CheckpointManifest,
    Finished,
    RunManifest,
    decode,
    new_run_id,
)
from naics_job.errors import CheckpointError, DataError
from naics_job.observability.logs import event
from naics_job.storage import files
from naics_job.storage.sessions import serving

log = logging.getLogger(__name__)
RESUMES = ("last", "auto")  # words for a run that goes on
CHECKPOINT_SUFFIX = ".ckpt"
Kind = Literal["fresh", "resume", "warm_start"]


@dataclass(frozen=True, kw_only=True)
class ResumePlan:
    """What to start from. Plain data: rank 0 makes it, the other ranks receive it."""

    kind: Kind
    run_id: str  # of the checkpoint when resuming, else new
    local_file: Path | None = None
    manifest: CheckpointManifest | None = None  # None too for a warm start file without one
    run: RunManifest | None = None  # what the resumed run froze at its start
    finished: Finished | None = None  # how the resumed run ended: see `training.finish.is_done`
    skipped: tuple[str, ...] = ()  # why each newer checkpoint was passed over


def resolve(ckpt_path: str | None, root_url: str, cache_dir: Path) -> ResumePlan:
    """Return what a run starts from; `cache_dir` receives checkpoints that are not local.

    Raises:
        CheckpointError: nothing that was asked for can be used.
        TransientError: storage cannot be reached. Never answered by an older checkpoint.
    """
    if ckpt_path is None or ckpt_path == "":
        return ResumePlan(kind="fresh", run_id=new_run_id())
    if ckpt_path not in RESUMES:
        return _warm_start(ckpt_path, cache_dir)
    catalogue = Catalogue(root_url)
    manifest, skipped = catalogue.newest_verified()
    for reason in skipped:
        event(log, logging.WARNING, "checkpoint.skipped", reason=reason)
    if manifest is not None:
        return _resume(catalogue, manifest, skipped, cache_dir)
    if skipped:
        text = f"none of the checkpoints in {root_url} can be used: " + "; ".join(skipped)
        hint = "restore one, or leave out --ckpt-path to start a new run beside them"
        raise CheckpointError(text, hint)
    if ckpt_path == "last":
        hint = (
            "leave out --ckpt-path to start fresh, or use --ckpt-path auto; check experiment_name"
        )
        raise CheckpointError(f"--ckpt-path last: no checkpoint in {root_url}", hint)
    return ResumePlan(kind="fresh", run_id=new_run_id())


def at_hand(plan: ResumePlan, ckpt_path: str | None, root_url: str, cache_dir: Path) -> ResumePlan:
    """The plan that another process made, with the checkpoint where this process can read it.

    Raises:
        CheckpointError, TransientError: the checkpoint cannot be fetched.
    """
    if plan.local_file is None or plan.local_file.exists():
        return plan
    url = ckpt_path
    if plan.kind == "resume" and plan.manifest is not None:
        url = Catalogue(root_url).url(plan.manifest.path)
    assert url is not None
    return replace(plan, local_file=_fetch(url, cache_dir))


def _resume(
    catalogue: Catalogue, manifest: CheckpointManifest, skipped: list[str], cache_dir: Path
) -> ResumePlan:
    run = catalogue.read_run(manifest.run_id)
    event(log, logging.INFO, "checkpoint.resume", run=manifest.run_id, step=manifest.step)
    return ResumePlan(
        kind="resume",
        run_id=manifest.run_id,
        local_file=_fetch(catalogue.url(manifest.path), cache_dir),
        manifest=manifest,
        run=run,
        finished=catalogue.read_finished(manifest.run_id),
        skipped=tuple(skipped),
    )


def _warm_start(url: str, cache_dir: Path) -> ResumePlan:
    local_file = _fetch(url, cache_dir)
    if not local_file.is_file():
        hint = "give a .ckpt file, or last to continue the newest run of the experiment"
        raise CheckpointError(f"--ckpt-path {url} is a folder", hint)
    manifest_url = url + MANIFEST_SUFFIX
    manifest = None
    if url.endswith(CHECKPOINT_SUFFIX) and files.exists(manifest_url):  # other files have others
        manifest = decode(CheckpointManifest, files.read_bytes(manifest_url), manifest_url)
    event(log, logging.INFO, "checkpoint.warm_start", file=url)
    return ResumePlan(
        kind="warm_start", run_id=new_run_id(), local_file=local_file, manifest=manifest
    )


@serving("checkpoints")
def _fetch(url: str, cache_dir: Path) -> Path:
    try:
        return files.fetch(url, cache_dir)
    except DataError as error:
        hint = "--ckpt-path takes last, auto, or the path or URL of a .ckpt file"
        raise CheckpointError(str(error.args[0]), hint) from error
