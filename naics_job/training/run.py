"""One run from settings to embeddings: prepare, fit, evaluate, publish, record."""

import logging
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace

import lightning.pytorch as pl

from naics_job.checkpoint.lease import RunLease, run_lease
from naics_job.checkpoint.manifest import Finished
from naics_job.checkpoint.resume import ResumePlan, at_hand, resolve
from naics_job.config.load import LoadedConfig
from naics_job.config.schema import Config
from naics_job.curriculum.schedule import Phase
from naics_job.distributed import broadcast_object, is_main, process_group
from naics_job.errors import NaicsJobError
from naics_job.observability.logs import bind, event
from naics_job.storage.files import cache_folder, join, local_path
from naics_job.training.build import Job, build_inputs, build_job, trains_on_gpu
from naics_job.training.callbacks.checkpointing import CheckpointCallback, StoppedBySignalError
from naics_job.training.callbacks.curriculum import CurriculumCallback
from naics_job.training.callbacks.evaluation import EvaluationCallback
from naics_job.training.callbacks.finished import FinishedCallback
from naics_job.training.callbacks.progress import ProgressCallback
from naics_job.training.callbacks.throughput import ThroughputCallback
from naics_job.training.finish import is_done, limits_of, stopped_short
from naics_job.training.loggers import build_loggers
from naics_job.training.preflight import check_folders, check_run, check_store, warn_of_plan
from naics_job.training.publish import publish
from naics_job.training.record import RunRecord
from naics_job.training.start import (
    PlainCheckpointIO,
    describer,
    frozen_facts,
    load_weights,
    open_store,
)
from naics_job.training.trainer import check_trainer, make_trainer

log = logging.getLogger(__name__)
UNEXPECTED = 70  # exit code of a defect of ours


@dataclass(frozen=True)
class RunOptions:
    """How one run is started, besides its settings."""

    ckpt_path: str | None = None
    skip_validation: bool = False
    only_phase: Phase | None = None  # a stage of `train-seq` stays in one phase


@dataclass(frozen=True)
class Callbacks:
    """The parts of a fit that are asked afterwards how it went."""

    throughput: ThroughputCallback
    curriculum: CurriculumCallback
    evaluation: EvaluationCallback
    checkpoints: CheckpointCallback


def run_training(loaded: LoadedConfig, options: RunOptions) -> RunRecord:
    """Train one model and return the record of the run, which is also written.

    With `--ckpt-path auto` a run that is finished is left as it is, its files and record too.

    Raises:
        NaicsJobError: the run failed or was stopped; the record says so too.
    """
    started = time.monotonic()
    with process_group(trains_on_gpu(loaded.config)):
        return _run(loaded, options, started)


def _run(loaded: LoadedConfig, options: RunOptions, started: float) -> RunRecord:
    config = loaded.config
    options = replace(options, ckpt_path=broadcast_object(options.ckpt_path))
    exclusive = _try_store(options, config)
    plan = _shared_plan(options.ckpt_path, config)
    bind(run=plan.run_id)
    if options.ckpt_path == "auto" and is_done(plan, config):
        return _already_finished(loaded, plan)
    with _lease(config, plan.run_id, exclusive) as lease:
        if broadcast_object(lease is not None and lease.waited):  # the holder may have saved since
            plan = _shared_plan(options.ckpt_path, config)
            bind(run=plan.run_id)
        return _recorded(loaded, options, plan, lease, started)


def _try_store(options: RunOptions, config: Config) -> bool:
    """Whether the checkpoint store lets only one of two runs create a file, as far as was tried."""
    if not is_main():
        return False
    if options.skip_validation:
        return local_path(_root(config)) is not None
    return check_store(_root(config)).conditional_create


def _lease(config: Config, run_id: str, exclusive: bool) -> AbstractContextManager[RunLease | None]:
    """The lease of the experiment on the main process, which alone writes; else nothing."""
    if not is_main():
        return nullcontext()
    return run_lease(_root(config), run_id, config.checkpoint.lease_ttl_s, exclusive)


def _recorded(
    loaded: LoadedConfig,
    options: RunOptions,
    plan: ResumePlan,
    lease: RunLease | None,
    started: float,
) -> RunRecord:
    """Train, and write the record however that ends."""
    config = loaded.config
    record = RunRecord(run_id=plan.run_id, config_hash=loaded.hash)
    try:
        record.error = _execute(loaded, options, plan, record, lease, started) or None
        record.status, record.exit_code = "stopped" if record.error else "finished", 0
    except SystemExit as error:  # what Lightning makes of a KeyboardInterrupt
        raise KeyboardInterrupt from error
    finally:
        if record.exit_code is None:
            _note_failure(record, sys.exception())
        if is_main():
            _write_record(record, config, started)
    return record


def _shared_plan(ckpt_path: str | None, config: Config) -> ResumePlan:
    """What the main process decided to start from; a remote checkpoint is fetched by each node."""
    root, cache = _root(config), cache_folder(config.dirs.data_dir) / "checkpoints"
    plan = broadcast_object(resolve(ckpt_path, root, cache) if is_main() else None)
    assert isinstance(plan, ResumePlan)
    return plan if is_main() else at_hand(plan, ckpt_path, root, cache)


def _already_finished(loaded: LoadedConfig, plan: ResumePlan) -> RunRecord:
    """What is left to say of a run that ended earlier."""
    assert plan.finished is not None
    assert plan.manifest is not None
    step = plan.finished.step
    advice = "raise training.trainer.max_epochs to train on; last exports it again"
    event(log, logging.INFO, "run.already_finished", run=plan.run_id, step=step, advice=advice)
    return RunRecord(
        run_id=plan.run_id,
        config_hash=loaded.hash,
        status="finished",
        exit_code=0,
        steps=step,
        checkpoint=join(_root(loaded.config), plan.manifest.path),
    )


def _root(config: Config) -> str:
    return join(config.dirs.checkpoint_dir, config.experiment_name)


def _note_failure(record: RunRecord, error: BaseException | None) -> None:
    """How a run ended that did not finish."""
    if isinstance(error, KeyboardInterrupt):
        record.status, record.exit_code, record.error = "stopped", 130, "interrupted in a step"
        return
    known = isinstance(error, NaicsJobError)
    record.status = "stopped" if isinstance(error, StoppedBySignalError) else "failed"
    record.exit_code = error.exit_code if isinstance(error, NaicsJobError) else UNEXPECTED
    record.error = str(error) if known else f"{type(error).__name__}: {error}"


def _write_record(record: RunRecord, config: Config, started: float) -> None:
    """Write the record; a folder that fails must not hide why the run failed."""
    try:
        url = record.write(config, started)
    except NaicsJobError as error:
        if record.exit_code == 0:
            raise
        event(log, logging.WARNING, "run.record_failed", error=str(error.args[0]))
        return
    event(log, logging.INFO, "run.record", status=record.status, file=url)


def _execute(
    loaded: LoadedConfig,
    options: RunOptions,
    plan: ResumePlan,
    record: RunRecord,
    lease: RunLease | None,
    started: float,
) -> str:
    """Train and publish; returns why the run stopped before its planned end, if it did."""
    config, done = loaded.config, is_done(plan, loaded.config)
    check_trainer(config)
    if not options.skip_validation:
        check_folders(config)
    inputs = build_inputs(config)
    job = build_job(config, inputs, frozen_facts(plan), options.only_phase)
    module, datamodule = job.module, job.datamodule
    record.describe(inputs.data, inputs.base)
    record.warm_start = options.ckpt_path if plan.kind == "warm_start" else None
    if not options.skip_validation:
        check_run(config, inputs.data, inputs.tokens, datamodule)
        if options.only_phase is None:
            warn_of_plan(config, module, job.length)
    store = open_store(loaded, plan, job)
    store.lease = lease
    parts = Callbacks(
        ThroughputCallback(started),
        CurriculumCallback(),
        EvaluationCallback(config, datamodule.heldout),
        CheckpointCallback(store, config.checkpoint.every_n_steps, describer(loaded, job)),
    )
    if plan.manifest is not None and plan.kind == "resume":
        parts.checkpoints.newest = store.catalogue.url(plan.manifest.path)
    trainer = build_trainer(config, plan.run_id, job, parts, done)
    record.device = str(trainer.strategy.root_device)
    resume_file = load_weights(plan, job)
    try:
        trainer.fit(module, datamodule=datamodule, ckpt_path=resume_file, weights_only=True)
    finally:
        _note_progress(record, trainer, parts)
        record.heldout_trained_before = len(module.provenance.heldout_but_trained)
    planned, early = job.length.total_steps, parts.evaluation.stopped
    short = "" if done else stopped_short(trainer, planned, early)
    if short:
        event(log, logging.WARNING, "run.stopped_short", reason=short)
    elif parts.throughput.time_to_first_step_s is None:
        event(log, logging.WARNING, "run.nothing_to_train", steps=trainer.global_step,
              advice="raise training.trainer.max_epochs or max_steps to train on")  # fmt: skip
    final = parts.evaluation.final(module, record.steps, record.epochs)  # all processes take part
    if is_main():
        publish(config, job, final, record)
        if not short and not done:  # after the exports: a run without them is not finished
            store.mark_finished(Finished(step=trainer.global_step, limits=limits_of(config)))
    return short


def build_trainer(
    config: Config, run_id: str, job: Job, parts: Callbacks, done: bool
) -> pl.Trainer:
    """Lightning's Trainer with `training.trainer.*`, our callbacks and our loggers.

    With `done` it trains no step.
    """
    callbacks: list[pl.Callback] = [parts.throughput, parts.curriculum, parts.evaluation]
    if config.training.trainer.get("enable_progress_bar", True):
        callbacks.append(ProgressCallback(parts.throughput))
    if done:
        callbacks.append(FinishedCallback())
    return make_trainer(
        config,
        accumulate_grad_batches=job.datamodule.dataset.micro_batches,
        logger=build_loggers(config.dirs.log_dir, config.experiment_name, run_id),
        callbacks=[*callbacks, parts.checkpoints],
        plugins=[PlainCheckpointIO()],
    )


def _note_progress(record: RunRecord, trainer: pl.Trainer, parts: Callbacks) -> None:
    record.checkpoint, record.restarts = parts.checkpoints.newest, parts.checkpoints.restarts
    record.steps, record.epochs = trainer.global_step, trainer.current_epoch
    record.phases = [asdict(span) for span in parts.curriculum.spans]
    for name, value in parts.throughput.summary().items():
        setattr(record, name, value)
