"""One run from settings to embeddings: prepare, fit, evaluate, publish, record."""

import logging
import time
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import lightning.pytorch as pl
import torch

from naics_job.checkpoint.manifest import CheckpointFacts, RunManifest, timestamp
from naics_job.checkpoint.payload import load_payload
from naics_job.checkpoint.resume import ResumePlan, resolve
from naics_job.checkpoint.store import RunStore
from naics_job.config.load import LoadedConfig
from naics_job.config.schema import Config
from naics_job.curriculum.schedule import Phase
from naics_job.distributed import is_main, world_size
from naics_job.errors import ConfigError, NaicsJobError
from naics_job.observability.logs import bind, event
from naics_job.storage.files import join
from naics_job.training.build import Job, build_inputs, build_job, cache_folder
from naics_job.training.callbacks.checkpointing import CheckpointCallback, StoppedBySignalError
from naics_job.training.callbacks.curriculum import CurriculumCallback
from naics_job.training.callbacks.evaluation import EvaluationCallback
from naics_job.training.callbacks.progress import ProgressCallback
from naics_job.training.callbacks.throughput import ThroughputCallback
from naics_job.training.loggers import build_loggers
from naics_job.training.module import NaicsModule
from naics_job.training.preflight import check_run
from naics_job.training.publish import publish
from naics_job.training.record import RunRecord, versions

log = logging.getLogger(__name__)
EXACT = ("data_digest", "base_model_sha256", "global_batch_size")  # a resume may not change these
NOISE = (  # Lightning's remarks on choices that are made on purpose here
    ".*does not have many workers.*",
    ".*LeafSpec.* is deprecated.*",
    ".*module.* in eval mode at the start of training.*",  # the frozen base encoder
)


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

    Raises:
        NaicsJobError: the run failed or was stopped; the record says so too.
    """
    started, config = time.monotonic(), loaded.config
    root = join(config.dirs.checkpoint_dir, config.experiment_name)
    plan = resolve(options.ckpt_path, root, cache_folder(config) / "checkpoints")
    bind(run=plan.run_id)
    record = RunRecord(run_id=plan.run_id, config_hash=loaded.hash)
    try:
        _execute(loaded, options, plan, record, started)
        record.status, record.exit_code = "finished", 0
    except StoppedBySignalError as error:
        record.status, record.exit_code, record.error = "stopped", error.exit_code, str(error)
        raise
    except NaicsJobError as error:
        record.status, record.exit_code, record.error = "failed", error.exit_code, str(error)
        raise
    except (KeyboardInterrupt, SystemExit) as error:  # Lightning turns the one into the other
        record.status, record.exit_code, record.error = "stopped", 130, "interrupted in a step"
        raise KeyboardInterrupt from error
    finally:
        if is_main() and record.status != "running":
            url = record.write(config, started)
            event(log, logging.INFO, "run.record", status=record.status, file=url)
    return record


def _execute(
    loaded: LoadedConfig, options: RunOptions, plan: ResumePlan, record: RunRecord, started: float
) -> None:
    config = loaded.config
    inputs = build_inputs(config)
    job = build_job(config, inputs, plan.run, options.only_phase)
    module, datamodule = job.module, job.datamodule
    record.describe(inputs.data, inputs.base)
    record.restarts = 1 if plan.kind == "resume" else 0
    if not options.skip_validation:
        steps = datamodule.steps_per_epoch
        check_run(config, inputs.data, inputs.tokens, module.curriculum, steps)
    store = _open_store(loaded, plan, job)
    parts = Callbacks(
        ThroughputCallback(started),
        CurriculumCallback(),
        EvaluationCallback(config, datamodule.heldout),
        CheckpointCallback(store, config.checkpoint.every_n_steps, _describer(loaded, job)),
    )
    trainer = build_trainer(config, plan.run_id, module, parts)
    record.device = str(trainer.strategy.root_device)
    resume_file = _load_weights(plan, job)
    try:
        trainer.fit(module, datamodule=datamodule, ckpt_path=resume_file, weights_only=True)
    finally:
        _note_progress(record, trainer, parts)
    store.mark_finished(trainer.global_step)
    if is_main():
        publish(config, job, parts.evaluation, record)


def build_trainer(config: Config, run_id: str, module: NaicsModule, parts: Callbacks) -> pl.Trainer:
    """Lightning's Trainer with `training.trainer.*`, our callbacks and our loggers."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for pattern in NOISE:
        warnings.filterwarnings("ignore", pattern)
    arguments = dict(config.training.trainer)
    if arguments.get("precision") == "auto":
        on_gpu = arguments.get("accelerator") != "cpu" and torch.cuda.is_available()
        arguments["precision"] = "16-mixed" if on_gpu else "32-true"
    callbacks: list[pl.Callback] = [parts.throughput, parts.curriculum, parts.evaluation]
    if arguments.pop("enable_progress_bar", True):
        callbacks.append(ProgressCallback(parts.throughput, module.lora_first_step))
    arguments.setdefault("enable_model_summary", False)
    return pl.Trainer(
        **arguments,
        enable_progress_bar=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        logger=build_loggers(config.dirs.log_dir, config.experiment_name, run_id),
        callbacks=[*callbacks, parts.checkpoints],
    )


def _open_store(loaded: LoadedConfig, plan: ResumePlan, job: Job) -> RunStore:
    """The run store, with run.json written at a first start and compared at a resume."""
    config, curriculum = loaded.config, job.module.curriculum
    root = join(config.dirs.checkpoint_dir, config.experiment_name)
    store = RunStore(root, plan.run_id, config.checkpoint.keep_last)
    current = RunManifest(
        run_id=plan.run_id,
        config_hash=loaded.hash,
        borders=dict(curriculum.borders.to_dict()),
        global_batch_size=job.datamodule.order.global_batch_size,
        total_steps=curriculum.borders.total_steps,
        base_model_sha256=job.inputs.base.sha256,
        data_digest=job.inputs.data.digest,
        created_at=timestamp(),
    )
    if plan.kind == "resume":
        _require_same(plan, current)
        if plan.manifest is not None:
            store.mark_resume_source(plan.manifest)
    elif is_main():
        store.start_run(current)
    return store


def _require_same(plan: ResumePlan, current: RunManifest) -> None:
    if plan.run is None:
        return
    changed = [name for name in EXACT if getattr(plan.run, name) != getattr(current, name)]
    if changed:
        values = ", ".join(
            f"{name}: {getattr(plan.run, name)} -> {getattr(current, name)}" for name in changed
        )
        raise ConfigError(
            f"run {plan.run_id} cannot be continued exactly, its inputs changed ({values})",
            "restore them, or start a new run from the checkpoint's weights: --ckpt-path FILE",
        )


def _load_weights(plan: ResumePlan, job: Job) -> str | None:
    """Check the checkpoint; a resume is left to Lightning, a warm start takes weights only."""
    if plan.local_file is None:
        return None
    payload = load_payload(plan.local_file, plan.manifest, job.architecture)
    if plan.kind == "resume":
        return str(plan.local_file)
    job.module.load_state_dict(payload["state_dict"])
    return None


def _describer(loaded: LoadedConfig, job: Job) -> Any:
    architecture = job.architecture

    def describe(trainer: pl.Trainer) -> CheckpointFacts:
        position = job.datamodule.position
        curriculum = job.module.curriculum
        return CheckpointFacts(
            step=trainer.global_step,
            epoch=position.epoch,
            position=position.position,
            phase=int(curriculum.at(trainer.global_step).phase),
            borders=dict(curriculum.borders.to_dict()),
            config_hash=loaded.hash,
            architecture=architecture,
            world_size=world_size(),
            global_batch_size=job.datamodule.order.global_batch_size,
            versions=versions(),
        )

    return describe


def _note_progress(record: RunRecord, trainer: pl.Trainer, parts: Callbacks) -> None:
    record.checkpoint = parts.checkpoints.newest
    record.steps, record.epochs = trainer.global_step, trainer.current_epoch
    record.phases = [asdict(span) for span in parts.curriculum.spans]
    for name, value in parts.throughput.summary().items():
        setattr(record, name, value)
