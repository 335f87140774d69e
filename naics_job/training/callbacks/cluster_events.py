"""Tell the cluster of a run: where it starts, each SADC phase, how it ended; main process only."""

from typing import Any

import lightning.pytorch as pl

from naics_job.curriculum.schedule import Phase
from naics_job.kube.events import PHASE_STARTED, EventSender, Note
from naics_job.training.callbacks.curriculum import CurriculumCallback
from naics_job.training.record import RunRecord


class ClusterEventsCallback(pl.Callback):
    """Comes after the curriculum, whose spans say when a phase begins."""

    def __init__(self, sender: EventSender, curriculum: CurriculumCallback) -> None:
        self.sender, self.curriculum = sender, curriculum
        self._known = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._known = len(self.curriculum.spans)
        step = trainer.global_step
        text = f"goes on from step {step}" if step else "starts at step 0"
        reason = "TrainingResumed" if step else "TrainingStarted"
        processes = f"{trainer.world_size} process(es)"
        self.sender.send(Note(reason, f"training {text} with {processes}", "Train"))

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        spans = self.curriculum.spans
        if len(spans) > self._known:
            self._known = len(spans)
            phase = Phase(spans[-1].phase)
            text = f"SADC phase {phase:d} ({phase.title}) from step {spans[-1].first_step}"
            self.sender.send(Note(PHASE_STARTED, text, "EnterPhase"))


def tell_outcome(sender: EventSender | None, record: RunRecord) -> None:
    """Send how the run ended, and wait a moment for what is still to be sent."""
    if sender is None:
        return
    how = f"after step {record.steps}" + (f": {record.error}" if record.error else "")
    if record.status == "finished":
        sender.send(Note("TrainingFinished", f"training finished {how}", "Finish"))
    elif record.status == "stopped":
        sender.send(Note("TrainingStopped", f"training stopped {how}", "Stop"))
    else:
        text = f"training failed with exit code {record.exit_code} {how}"
        sender.send(Note("TrainingFailed", text, "Fail", warning=True))
    sender.close()
