"""Note what the exporter shows: numbers at hand at each step, tensors only when they are logged."""

import time
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch

from naics_job.curriculum.schedule import Phase
from naics_job.data.candidates import NOBODY
from naics_job.geometry.lorentz import geodesic_distance
from naics_job.loss.objective import NonFiniteLossError
from naics_job.observability.metrics import MAX_EXPERTS
from naics_job.training.callbacks.checkpointing import CheckpointCallback
from naics_job.training.callbacks.throughput import ThroughputCallback
from naics_job.training.module import NaicsModule, naics_module
from naics_job.training.telemetry import Telemetry
from naics_job.training.trainer import is_logged

TITLES = tuple(phase.title for phase in Phase)
TENSOR_SHARE = 0.0001  # of the time, at most, goes into reading tensors


class ExporterCallback(pl.Callback):
    """After the callbacks whose numbers it reads.

    A step only leaves a few numbers here; what follows from them is worked out when a scrape asks.

    Args:
        telemetry: where the numbers go.
        throughput: counts and durations of this process.
        checkpoints: saves, their store, and the restarts of the run.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        throughput: ThroughputCallback,
        checkpoints: CheckpointCallback,
    ) -> None:
        self.telemetry, self.readings = telemetry, telemetry.readings
        self.throughput, self.checkpoints = throughput, checkpoints
        self._epoch = 0
        self._step_at: float | None = None  # Unix time of the newest step
        self._num_codes = self._num_masked = 0
        self._tensors_due = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module, put = naics_module(pl_module), self.readings.set
        borders = module.curriculum.borders
        for phase, end in zip(Phase, borders.steps, strict=True):
            put("naics_training_phase_end_step", float(end), str(int(phase)))
        put("naics_training_planned_steps", float(borders.total_steps))
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        put("naics_global_batch_anchors", float(datamodule.order.global_batch_size))
        put("naics_run_restarts_total", float(self.checkpoints.restarts))
        for source in (*module.objective.weights, "gradient"):
            put("naics_training_nonfinite_total", 0.0, source)
        self._epoch = datamodule.position.epoch
        self.readings.before_scrape(lambda: self._note_position(trainer.global_step, module))
        self.readings.before_scrape(self._note_counts)
        if self.checkpoints.uploader is not None:
            put("naics_run_lost_steps_total", float(self.checkpoints.lost_steps))
            self.readings.before_scrape(self._note_checkpoints)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any,
        batch_idx: int,
    ) -> None:  # fmt: skip
        module, readings, throughput = naics_module(pl_module), self.readings, self.throughput
        self.telemetry.health.sign()
        self.telemetry.exporter.revive()
        self._step_at, self._epoch = time.time(), batch.epoch
        self._num_codes += module.step_encoder.step_codes
        self._num_masked += module.planner.num_masked
        readings.observe("naics_training_step_seconds", throughput.newest_step_s)
        if throughput.newest_wait_s is not None:
            readings.observe("naics_training_data_wait_seconds", throughput.newest_wait_s)
        began = time.monotonic()
        if began >= self._tensors_due and is_logged(trainer, trainer.global_step):
            self._note_tensors(trainer, module)
            took = time.monotonic() - began
            self._tensors_due = began + took / TENSOR_SHARE

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._step_at is not None:  # the newest ones, once more
            self._note_tensors(trainer, naics_module(pl_module))

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        if isinstance(exception, NonFiniteLossError):
            self.readings.add("naics_training_nonfinite_total", 1.0, exception.term)

    def _note_position(self, step: int, module: NaicsModule) -> None:
        """Where the curriculum stands after the newest step."""
        put = self.readings.set
        state = module.curriculum.at(step)
        put("naics_training_step", float(step))
        put("naics_training_epoch", float(self._epoch))
        put("naics_training_phase", float(state.phase))
        self.readings.one_hot("naics_training_phase_active", state.phase.title, TITLES)
        put("naics_training_phase_progress_ratio", state.phase_progress)
        put("naics_training_progress_ratio", state.progress)
        put("naics_training_encoder_active", float(module.lora_active(step)))
        put("naics_curriculum_hard_share_ratio", state.hard_share)
        put("naics_curriculum_tree_distance_alpha", state.tree_distance_alpha)

    def _note_counts(self) -> None:
        """Counts, and the time since the newest step."""
        put, age = self.readings.set, self.telemetry.health.step_age_s()
        if age is not None and self._step_at is not None:
            put("naics_last_step_timestamp_seconds", self._step_at)
            put("naics_last_step_age_seconds", age)
        put("naics_training_anchors_total", float(self.throughput.num_anchors))
        put("naics_training_tokens_total", float(self.throughput.num_tokens))
        put("naics_training_codes_total", float(self._num_codes))
        put("naics_curriculum_masked_negatives_total", float(self._num_masked))
        put("naics_checkpoint_blocked_seconds_total", sum(self.checkpoints.block_seconds))

    def _note_tensors(self, trainer: pl.Trainer, module: NaicsModule) -> None:
        """What waits for the device, as Lightning does to log this step's losses."""
        put = self.readings.set
        for group in trainer.optimizers[0].param_groups:
            put("naics_training_learning_rate", float(group["lr"]), group["name"])
        if module.expert_load is not None:
            load = module.expert_load.tolist()
            put("naics_router_load_max_ratio", max(load))
            for expert, share in enumerate(load[:MAX_EXPERTS]):
                put("naics_router_load_ratio", share, str(expert))
        if module.curriculum.at(trainer.global_step).mitigation and module.clusters.epoch >= 0:
            put("naics_curriculum_clusters", float(module.clusters.num_clusters))
        if (distance := _mined_distance(module)) is not None:
            put("naics_curriculum_mined_distance", distance)

    def _note_checkpoints(self) -> None:
        """What the uploader's thread knows at this moment, and the goodput."""
        uploader, put = self.checkpoints.uploader, self.readings.set
        assert uploader is not None
        put("naics_checkpoint_age_seconds", time.monotonic() - uploader.stored_at)
        put("naics_checkpoint_saved_total", float(uploader.num_saved))
        put("naics_checkpoint_failures_total", float(uploader.num_failures))
        put("naics_checkpoint_replaced_total", float(uploader.num_replaced))
        put("naics_checkpoint_queue", float(uploader.num_queued))
        if not self.telemetry.health.ended:  # from then on it is what the record says
            lasted = time.monotonic() - self.throughput.started
            put("naics_run_goodput_ratio", self.throughput.productive_s / max(lasted, 1e-9))
        if (newest := uploader.newest) is not None:
            put("naics_checkpoint_step", float(newest.step))
            put("naics_checkpoint_size_bytes", float(newest.size_bytes))
            put("naics_checkpoint_duration_seconds", uploader.stored_in_s)


@torch.no_grad()
def _mined_distance(module: NaicsModule) -> float | None:
    """Mean distance from codes of the newest step to what was mined for them, as remembered."""
    mined = module.planner.mined
    if mined is None:
        return None
    sought, codes = mined
    rows, places = np.nonzero(codes != NOBODY)
    if not len(rows):
        return None
    points = module.bank.points
    near = points[torch.from_numpy(sought[rows]).to(points.device)]
    far = points[torch.from_numpy(codes[rows, places]).to(points.device)]
    return float(geodesic_distance(near, far, module.embedder.curvature_value()).mean())
