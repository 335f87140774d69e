"""One run from settings to embeddings: prepare, fit, evaluate, publish, record."""

import json
import logging
import os
import sys
import time
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace

from naics_job.checkpoint.catalogue import checkpoint_root
from naics_job.checkpoint.lease import RunLease
from naics_job.checkpoint.manifest import Finished
from naics_job.checkpoint.resume import ResumePlan
from naics_job.checkpoint.store import RunStore
from naics_job.config.load import LoadedConfig
from naics_job.config.schema import Config
from naics_job.curriculum.schedule import Phase
from naics_job.distributed import broadcast_object, is_main, peers_missed, process_group
from naics_job.errors import UNEXPECTED, NaicsJobError
from naics_job.kube.events import EventSender, sender_in
from naics_job.observability.heartbeat import note_run, note_summary, rest
from naics_job.observability.logs import bind, event
from naics_job.stopping import Stop, StopNow, StoppedBySignalError, listening
from naics_job.storage.files import join
from naics_job.training.assembly import (
    build_callbacks,
    build_trainer,
    note_progress,
    with_exporter,
)
from naics_job.training.build import Job, build_inputs, build_job, trains_on_gpu
from naics_job.training.callbacks.checkpointing import AGAIN
from naics_job.training.callbacks.cluster_events import tell_outcome
from naics_job.training.final import finish
from naics_job.training.finish import is_done, limits_of, stopped_short, time_limit_of
from naics_job.training.plan import held_lease, shared_plan, try_store
from naics_job.training.preflight import check_folders, check_run, warn_of_plan
from naics_job.training.record import RunRecord
from naics_job.training.start import frozen_facts, load_weights, open_store
from naics_job.training.telemetry import Telemetry, telemetry
from naics_job.training.trainer import check_trainer

log = logging.getLogger(__name__)
SAME = "start the same command again"


@dataclass(frozen=True)
class RunOptions:
    """How one run is started, besides its settings."""

    ckpt_path: str | None = None
    skip_validation: bool = False
    only_phase: Phase | None = None  # a stage of `train-seq` stays in one phase


@dataclass(frozen=True)
class Attempt:
    """One start of a run: what was asked, who may stop it, when it began (monotonic clock), and
    what shows it to the outside."""

    loaded: LoadedConfig
    options: RunOptions
    stop: Stop
    started: float
    telemetry: Telemetry | None
    events: EventSender | None = None  # of the main process, in a cluster

    @property
    def config(self) -> Config:
        """The settings."""
        return self.loaded.config


def run_training(loaded: LoadedConfig, options: RunOptions) -> RunRecord:
    """Train one model and return the record of the run, which is also written.

    With `--ckpt-path auto` a run that is finished is left as it is, its files and record too.

    Raises:
        NaicsJobError: the run failed or was stopped; the record says so too.
    """
    started = time.monotonic()
    with listening() as stop, telemetry(loaded.config, stop) as shown:
        try:
            stop.heed()
            with process_group(trains_on_gpu(loaded.config), stop):
                return _run(Attempt(loaded, options, stop, started, shown))
        except StopNow as error:
            raise stop.error("before it began", SAME) from error


def _run(attempt: Attempt) -> RunRecord:
    config = attempt.config
    options = replace(attempt.options, ckpt_path=broadcast_object(attempt.options.ckpt_path))
    events = sender_in(os.environ) if is_main() else None
    attempt = replace(attempt, options=options, events=events)
    exclusive = try_store(config, options.skip_validation)
    plan = shared_plan(options.ckpt_path, config)
    _tell_run(attempt, plan)
    if options.ckpt_path == "auto" and is_done(plan, config):
        return _already_finished(attempt.loaded, plan)
    with held_lease(config, plan.run_id, exclusive) as lease:
        if broadcast_object(lease is not None and lease.waited):  # the holder may have saved since
            plan = shared_plan(options.ckpt_path, config)
            _tell_run(attempt, plan)
        return _recorded(attempt, plan, lease)


def _tell_run(attempt: Attempt, plan: ResumePlan) -> None:
    """Let log lines, the launcher and metrics know which run this is."""
    bind(run=plan.run_id, step=None, phase=None)
    note_run(checkpoint_root(attempt.config), plan.run_id)
    if attempt.telemetry is not None:
        attempt.telemetry.begin(attempt.loaded, plan.run_id)


def _recorded(attempt: Attempt, plan: ResumePlan, lease: RunLease | None) -> RunRecord:
    """Train, and write the record however that ends."""
    record = RunRecord(run_id=plan.run_id, config_hash=attempt.loaded.hash)
    if plan.kind == "resume" and plan.manifest is not None:
        record.steps = plan.manifest.step
    if lease is not None:
        record.lost_steps = lease.begin(plan.run_id, record.steps)
    try:
        with peers_missed(attempt.stop):
            record.error = _execute(attempt, plan, record, lease) or None
        record.status, record.exit_code = "stopped" if record.error else "finished", 0
    except SystemExit as error:  # what Lightning makes of a KeyboardInterrupt
        raise KeyboardInterrupt from error
    except StopNow as error:
        if record.steps == 0:
            raise attempt.stop.error("while it prepared", SAME) from error
        saved = f"after step {record.steps}, which is saved"
        raise attempt.stop.error(saved, AGAIN) from error
    finally:
        if record.exit_code is None:
            _note_failure(record, sys.exception())
        if is_main():
            _tell_outcome(record, attempt)
    return record


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
        checkpoint=join(checkpoint_root(loaded.config), plan.manifest.path),
    )


def _note_failure(record: RunRecord, error: BaseException | None) -> None:
    """How a run ended that did not finish."""
    if isinstance(error, KeyboardInterrupt):
        record.status, record.exit_code, record.error = "stopped", 130, "interrupted in a step"
        return
    known = isinstance(error, NaicsJobError)
    record.status = "stopped" if isinstance(error, StoppedBySignalError) else "failed"
    record.exit_code = error.exit_code if isinstance(error, NaicsJobError) else UNEXPECTED
    record.error = str(error) if known else f"{type(error).__name__}: {error}"


def _tell_outcome(record: RunRecord, attempt: Attempt) -> None:
    shown = attempt.telemetry
    record.exporter_restarts = 0 if shown is None else shown.exporter.restarts
    try:
        _write_record(record, attempt.config, attempt.started)
    finally:
        if shown is not None:
            shown.outcome(record)
        tell_outcome(attempt.events, record)


def _write_record(record: RunRecord, config: Config, started: float) -> None:
    """Write the record; a folder that fails must not hide why the run failed."""
    note_summary(json.dumps(record.summary()))
    try:
        url = record.write(config, started)
    except NaicsJobError as error:
        if record.exit_code == 0:
            raise
        event(log, logging.WARNING, "run.record_failed", error=str(error.args[0]))
        return
    event(log, logging.INFO, "run.record", status=record.status, file=url)


def _prepare(attempt: Attempt, plan: ResumePlan, record: RunRecord) -> tuple[Job, RunStore]:
    """Check the settings, build what trains, and open the store."""
    config, options = attempt.config, attempt.options
    check_trainer(config)
    if not options.skip_validation:
        check_folders(config)
    inputs = build_inputs(config)
    job = build_job(config, inputs, frozen_facts(plan), options.only_phase)
    record.describe(inputs.data, inputs.base, inputs.labelled)
    record.warm_start = options.ckpt_path if plan.kind == "warm_start" else None
    if not options.skip_validation:
        check_run(config, inputs.data, inputs.tokens, job.datamodule)
        if options.only_phase is None:
            warn_of_plan(config, job.module, job.length)
    store = open_store(attempt.loaded, plan, job)
    if plan.manifest is not None and plan.kind == "resume":
        record.checkpoint = store.catalogue.url(plan.manifest.path)
    return job, store


def _execute(attempt: Attempt, plan: ResumePlan, record: RunRecord, lease: RunLease | None) -> str:
    """Train and publish; returns why the run stopped before its planned end, if it did."""
    config, stop, done = attempt.config, attempt.stop, is_done(plan, attempt.config)
    job, store = _prepare(attempt, plan, record)
    store.lease = lease
    parts = build_callbacks(attempt.loaded, job, store, stop, attempt.started)
    parts = with_exporter(parts, attempt.telemetry)
    parts.checkpoints.lost_steps = parts.throughput.lost_steps = record.lost_steps
    trainer = build_trainer(config, plan.run_id, job, parts, done, attempt.events)
    record.device = str(trainer.strategy.root_device)
    if lease is not None:
        lease.progress = lambda: trainer.global_step
    resume_file = load_weights(plan, job)
    module = job.module
    try:
        with stop.remembered():
            trainer.fit(module, datamodule=job.datamodule, ckpt_path=resume_file, weights_only=True)
    finally:
        note_progress(record, trainer, parts)
        record.heldout_trained_before = len(module.provenance.heldout_but_trained)
    planned, early = job.length.total_steps, parts.evaluation.stopped
    short = "" if done else stopped_short(trainer, planned, early)
    if short:
        event(log, logging.WARNING, "run.stopped_short", reason=short)
    elif parts.throughput.time_to_first_step_s is None:
        event(log, logging.WARNING, "run.nothing_to_train", steps=trainer.global_step,
              advice="raise training.trainer.max_epochs or max_steps to train on")  # fmt: skip
    record.exported_step = parts.evaluation.restore_best(module) or record.steps
    final = finish(job)  # all processes take part
    rest()
    if is_main():
        from naics_job.training.publish import publish  # onnxruntime starts threads at its import

        publish(config, job, final, record)
        stop.finish()
        if not done:  # after the exports: a run without them is not finished
            limits = time_limit_of(config) if short else limits_of(config)
            store.mark_finished(Finished(step=trainer.global_step, limits=limits))
    with suppress(RuntimeError) if is_main() else nullcontext():
        broadcast_object(None)  # nobody ends well before all is written
    return short
