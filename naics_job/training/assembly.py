"""The Trainer of a run with our callbacks, and what they tell the record afterwards."""

from dataclasses import asdict, dataclass, replace

import lightning.pytorch as pl
import torch

from naics_job.checkpoint.store import RunStore
from naics_job.checkpoint.uploader import Uploader
from naics_job.config.load import LoadedConfig
from naics_job.config.schema import Config
from naics_job.distributed import is_main
from naics_job.kube.events import EventSender
from naics_job.stopping import Stop
from naics_job.training.build import Job
from naics_job.training.callbacks.checkpointing import CheckpointCallback
from naics_job.training.callbacks.cluster_events import ClusterEventsCallback
from naics_job.training.callbacks.curriculum import CurriculumCallback
from naics_job.training.callbacks.evaluation import EvaluationCallback
from naics_job.training.callbacks.exporter import ExporterCallback
from naics_job.training.callbacks.finished import FinishedCallback
from naics_job.training.callbacks.gradients import GradientNormCallback
from naics_job.training.callbacks.heartbeat import HeartbeatCallback
from naics_job.training.callbacks.idle import IdleMechanismsCallback
from naics_job.training.callbacks.progress import ProgressCallback
from naics_job.training.callbacks.throughput import ThroughputCallback
from naics_job.training.exported import ReadingsLogger
from naics_job.training.loggers import build_loggers
from naics_job.training.record import RunRecord
from naics_job.training.snapshot import SnapshotIO
from naics_job.training.start import describer
from naics_job.training.telemetry import Telemetry
from naics_job.training.trainer import make_trainer

FLUSH_SHARE = 0.8  # of the grace period; the rest is for the record and the end of the process


@dataclass(frozen=True)
class Callbacks:
    """The parts of a fit that are asked afterwards how it went."""

    throughput: ThroughputCallback
    curriculum: CurriculumCallback
    evaluation: EvaluationCallback
    checkpoints: CheckpointCallback
    exporter: ExporterCallback | None = None


def with_exporter(parts: Callbacks, telemetry: Telemetry | None) -> Callbacks:
    """`parts`, and what shows their numbers where metrics are served."""
    if telemetry is None:
        return parts
    exporter = ExporterCallback(telemetry, parts.throughput, parts.checkpoints)
    return replace(parts, exporter=exporter)


def build_callbacks(
    loaded: LoadedConfig, job: Job, store: RunStore, stop: Stop, started: float
) -> Callbacks:
    """The callbacks of a run that began at `started` on the monotonic clock."""
    config = loaded.config
    return Callbacks(
        ThroughputCallback(started),
        CurriculumCallback(),
        EvaluationCallback(config, job.datamodule.splits.validation),
        CheckpointCallback(
            Uploader(store, config.checkpoint.max_failures) if is_main() else None,
            config.checkpoint.max_lost_steps,
            describer(loaded, job),
            stop,
            FLUSH_SHARE * config.launch.grace_s,
            SnapshotIO(),
        ),
    )


def build_trainer(
    config: Config, run_id: str, job: Job, parts: Callbacks, done: bool,
    events: EventSender | None = None,
) -> pl.Trainer:  # fmt: skip
    """Lightning's Trainer with `training.trainer.*`, our callbacks and our loggers.

    With `done` it trains no step; with `events` the cluster is told.
    """
    callbacks: list[pl.Callback] = [HeartbeatCallback(), parts.throughput]
    callbacks += [
        parts.curriculum,
        parts.evaluation,
        GradientNormCallback(),
        IdleMechanismsCallback(),
    ]
    if config.training.trainer.get("enable_progress_bar", True):
        callbacks.append(ProgressCallback(parts.throughput))
    if events is not None:
        callbacks.append(ClusterEventsCallback(events, parts.curriculum))
    if done:
        callbacks.append(FinishedCallback())
    loggers = build_loggers(config.dirs.log_dir, config.experiment_name, run_id)
    if parts.exporter is not None:
        callbacks.append(parts.exporter)
        loggers.append(ReadingsLogger(parts.exporter.readings))
    return make_trainer(
        config,
        logger=loggers,
        callbacks=[*callbacks, parts.checkpoints],
        plugins=[parts.checkpoints.snapshots],
    )


def note_progress(record: RunRecord, trainer: pl.Trainer, parts: Callbacks) -> None:
    """Fill in how far the fit came and at what rate."""
    checkpoints, uploader = parts.checkpoints, parts.checkpoints.uploader
    record.restarts, record.lost_steps = checkpoints.restarts, checkpoints.lost_steps
    if uploader is not None and uploader.newest is not None:
        record.checkpoint = uploader.store.catalogue.url(uploader.newest.path)
    record.steps, record.epochs = trainer.global_step, trainer.current_epoch
    record.productive_s = parts.throughput.productive_s
    if (device := trainer.strategy.root_device).type == "cuda":
        record.peak_gpu_bytes = torch.cuda.max_memory_allocated(device)
    record.phases = [asdict(span) for span in parts.curriculum.spans]
    for name, value in parts.throughput.summary().items():
        setattr(record, name, value)
