"""Announce SADC phases, keep the memory bank fresh while it is cheap, and cluster in phase 3."""

import logging
import time
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch

from naics_job.curriculum.false_negatives import refresh
from naics_job.curriculum.schedule import Phase, PhaseState
from naics_job.data.sampler import step_rng
from naics_job.distributed import broadcast_object
from naics_job.observability.logs import bind, event
from naics_job.training.calibration import calibrate
from naics_job.training.module import NaicsModule, naics_module

log = logging.getLogger(__name__)


@dataclass
class PhaseSpan:
    """How long one phase has lasted so far; the wait before a step counts as part of it."""

    phase: int
    first_step: int
    last_step: int
    seconds: float


class CurriculumCallback(pl.Callback):
    """Applies `curriculum.schedule.Curriculum` at batch and epoch borders; remembers the phases."""

    def __init__(self) -> None:
        self.spans: list[PhaseSpan] = []
        self._since = time.monotonic()
        self._state: PhaseState | None = None  # of the batch that is running

    def _refresh_bank(self, module: NaicsModule) -> None:
        """Store every code afresh, and fit what queries trust to the codes as they are now."""
        calibrate(module)
        encoded = module.embed_all()
        everyone = torch.arange(len(module.taxonomy), device=module.device)
        module.bank.update(everyone, encoded.points, encoded.gates)

    def _cluster(self, module: NaicsModule, epoch: int) -> None:
        started = time.monotonic()
        seed = int(step_rng(module.config.seed, epoch, 0, "clusters").integers(2**62))
        generator = torch.Generator().manual_seed(seed)
        curvature = module.embedder.curvature_value()
        labels = refresh(module.bank, module.config.curriculum, curvature, generator)
        labels = broadcast_object(labels)  # one process decides, whatever the others rounded
        module.clusters.assign(labels, epoch)
        module.log("curriculum/clusters", float(module.clusters.num_clusters))
        seconds = round(time.monotonic() - started, 3)
        fields = {"epoch": epoch, "clusters": module.clusters.num_clusters, "seconds": seconds}
        event(log, logging.INFO, "curriculum.clustered", **fields)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        module = naics_module(pl_module)
        state = self._state = module.phase_state()
        bind(step=trainer.global_step, phase=int(state.phase))
        # by the batch, which follows the saved position, rather than by Lightning's epoch hooks
        epoch, step = batch.epoch, trainer.global_step
        clusters_due = module.curriculum.should_cluster(epoch, step, module.clusters.epoch)
        if clusters_due or batch.index == 0:
            self._refresh_bank(module)  # without dropout, unlike what steps leave there
        if clusters_due:
            self._cluster(module, epoch)
        if not self.spans or self.spans[-1].phase != state.phase:
            self._enter(state, trainer.global_step)
        self.spans[-1].last_step = trainer.global_step

    def _enter(self, state: PhaseState, step: int) -> None:
        self.spans.append(PhaseSpan(int(state.phase), step, step, 0.0))
        fields = {"phase": int(state.phase), "title": Phase(state.phase).title}
        event(log, logging.INFO, "curriculum.phase", **fields, step=step)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._since = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any,
        batch_idx: int,
    ) -> None:  # fmt: skip
        module, state = naics_module(pl_module), self._state
        assert state is not None  # the step is counted by now: asking again gives the next one's
        now = time.monotonic()
        self.spans[-1].seconds += now - self._since
        self._since = now
        scalars = {
            "curriculum/phase": float(state.phase),
            "curriculum/phase_progress": state.phase_progress,
            "curriculum/hard_share": state.hard_share,
            "curriculum/tree_distance_alpha": state.tree_distance_alpha,
            "curriculum/masked_false_negatives": float(module.planner.num_masked),
        }
        module.log_dict(scalars, batch_size=1)

    def state_dict(self) -> dict[str, Any]:
        return {"spans": [vars(span) for span in self.spans]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.spans = [PhaseSpan(**span) for span in state_dict["spans"]]
