"""Note what the exporter shows: numbers at hand at each step, tensors only when they are logged."""

import time
from typing import Any

import lightning.pytorch as pl
import torch

from naics_job.curriculum.schedule import Phase
from naics_job.data.candidates import NOBODY
from naics_job.geometry.lorentz import geodesic_distance
from naics_job.loss.objective import NonFiniteLossError
from naics_job.observability.metrics import MAX_EXPERTS
from naics_job.training.callbacks.checkpointing import CheckpointCallback
from naics_job.training.callbacks.throughput import ThroughputCallback
from naics_job.training.module import NaicsModule
from naics_job.training.telemetry import Telemetry

TITLES = tuple(phase.title for phase in Phase)


class ExporterCallback(pl.Callback):
    """After the callbacks whose numbers it reads.

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

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module, put = _module(pl_module), self.readings.set
        borders = module.curriculum.borders
        for phase, end in zip(Phase, borders.steps, strict=True):
            put("naics_training_phase_end_step", float(end), str(int(phase)))
        put("naics_training_planned_steps", float(borders.total_steps))
        order = trainer.datamodule.order  # type: ignore[attr-defined]
        put("naics_global_batch_anchors", float(order.global_batch_size))
        put("naics_run_restarts_total", float(self.checkpoints.restarts))
        for source in (*module.objective.weights, "gradient"):
            put("naics_training_nonfinite_total", 0.0, source)
        self._note_position(trainer, module)
        self.readings.before_scrape(self._note_ages)
        if self.checkpoints.uploader is not None:
            put("naics_run_lost_steps_total", float(self.checkpoints.lost_steps))
            self.checkpoints.uploader.stored_at = time.monotonic()
            self.readings.before_scrape(self._note_checkpoints)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any,
        batch_idx: int,
    ) -> None:  # fmt: skip
        module, readings = _module(pl_module), self.readings
        self.telemetry.health.sign()
        self.telemetry.exporter.revive()
        readings.set("naics_last_step_timestamp_seconds", time.time())
        self._note_position(trainer, module)
        self._note_counts(trainer, module, batch)
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and trainer.global_step % every == 0:
            self._note_tensors(trainer, module, batch)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        if isinstance(exception, NonFiniteLossError):
            self.readings.add("naics_training_nonfinite_total", 1.0, exception.term)

    def _note_position(self, trainer: pl.Trainer, module: NaicsModule) -> None:
        """Where the curriculum stands after the newest step."""
        state, put = module.phase_state(), self.readings.set
        put("naics_training_phase", float(state.phase))
        self.readings.one_hot("naics_training_phase_active", state.phase.title, TITLES)
        put("naics_training_phase_progress_ratio", state.phase_progress)
        put("naics_training_progress_ratio", state.progress)
        put("naics_training_epoch", float(trainer.current_epoch))
        put("naics_training_step", float(trainer.global_step))
        encoder = module.lora_active(trainer.global_step)
        put("naics_training_encoder_active", float(encoder))
        put("naics_curriculum_hard_share_ratio", state.hard_share)
        put("naics_curriculum_tree_distance_alpha", state.tree_distance_alpha)
        if state.mitigation and module.clusters.epoch >= 0:
            put("naics_curriculum_clusters", float(module.clusters.num_clusters))

    def _note_counts(self, trainer: pl.Trainer, module: NaicsModule, batch: Any) -> None:
        """What the newest micro-batch held and how long it took."""
        readings, throughput = self.readings, self.throughput
        readings.observe("naics_training_step_seconds", throughput.newest_step_s)
        if throughput.newest_wait_s is not None:
            readings.observe("naics_training_data_wait_seconds", throughput.newest_wait_s)
        readings.set("naics_training_anchors_total", float(throughput.num_anchors))
        readings.set("naics_training_tokens_total", float(throughput.num_tokens))
        readings.add("naics_training_codes_total", float(module.step_encoder.step_codes))
        masked = float(module.planner.num_masked)
        readings.add("naics_curriculum_masked_negatives_total", masked)

    def _note_tensors(self, trainer: pl.Trainer, module: NaicsModule, batch: Any) -> None:
        """What waits for the device, as Lightning does to log this step's losses."""
        put = self.readings.set
        for group in trainer.optimizers[0].param_groups:
            put("naics_training_learning_rate", float(group["lr"]), group["name"])
        if module.expert_load is not None:
            load = module.expert_load.tolist()
            put("naics_router_load_max_ratio", max(load))
            for expert, share in enumerate(load[:MAX_EXPERTS]):
                put("naics_router_load_ratio", share, str(expert))
        if (distance := _mined_distance(module, batch.anchors)) is not None:
            put("naics_curriculum_mined_distance", distance)

    def _note_ages(self) -> None:
        age = self.telemetry.health.step_age_s()
        if age is not None:
            self.readings.set("naics_last_step_age_seconds", age)
        blocked = sum(self.checkpoints.block_seconds)
        self.readings.set("naics_checkpoint_blocked_seconds_total", blocked)

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
def _mined_distance(module: NaicsModule, anchors: Any) -> float | None:
    """Mean distance from the anchors of the newest step to what was mined for them, as embedded."""
    mined = module.planner.mined
    if mined is None or not (mined != NOBODY).any():
        return None
    points = module.bank.points
    codes = torch.from_numpy(mined).to(points.device)  # [batch, any]
    at = torch.as_tensor(anchors, device=points.device)[:, None].expand_as(codes)
    there = codes != NOBODY
    curvature = module.embedder.curvature_value()
    return float(geodesic_distance(points[at[there]], points[codes[there]], curvature).mean())


def _module(pl_module: pl.LightningModule) -> NaicsModule:
    assert isinstance(pl_module, NaicsModule)
    return pl_module
