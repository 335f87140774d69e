"""What training tells the cluster: its start, each phase once, its end."""

from types import SimpleNamespace
from typing import Any

import pytest

from naics_job.curriculum.schedule import Phase
from naics_job.kube.events import Note
from naics_job.training.callbacks.cluster_events import ClusterEventsCallback, tell_outcome
from naics_job.training.callbacks.curriculum import CurriculumCallback, PhaseSpan
from naics_job.training.record import RunRecord


class Sender:
    def __init__(self) -> None:
        self.notes: list[Note] = []
        self.closed = False

    def send(self, note: Note) -> None:
        self.notes.append(note)

    def close(self) -> None:
        self.closed = True


def fit(phases: list[Phase], known: int = 0, first_step: int = 0) -> list[Note]:
    """The notes of a fit whose batches are in these phases; `known` of them before a resume."""
    sender, curriculum = Sender(), CurriculumCallback()
    callback = ClusterEventsCallback(sender, curriculum)  # type: ignore[arg-type]
    curriculum.spans = [PhaseSpan(int(phase), 0, 0, 0.0) for phase in phases[:known]]
    trainer: Any = SimpleNamespace(global_step=first_step, world_size=2)
    module: Any = None
    callback.on_train_start(trainer, module)
    for number, phase in enumerate(phases):
        if not curriculum.spans or curriculum.spans[-1].phase != phase:
            curriculum.spans.append(PhaseSpan(int(phase), number, number, 0.0))
        callback.on_train_batch_start(trainer, module, None, number)
    return sender.notes


def test_each_phase_is_told_once() -> None:
    notes = fit([Phase.STRUCTURAL, Phase.STRUCTURAL, Phase.GEOMETRIC, Phase.GEOMETRIC])
    assert [note.reason for note in notes] == ["TrainingStarted", "PhaseStarted", "PhaseStarted"]
    assert notes[2].text == "SADC phase 2 (geometric refinement) from step 2"


def test_a_resume_says_where_it_goes_on() -> None:
    notes = fit([Phase.STRUCTURAL], known=1, first_step=40)
    assert [note.reason for note in notes] == ["TrainingResumed"]
    assert "step 40" in notes[0].text


@pytest.mark.parametrize(
    ("status", "code", "reason", "warning"),
    [
        ("finished", 0, "TrainingFinished", False),
        ("stopped", 143, "TrainingStopped", False),
        ("failed", 65, "TrainingFailed", True),
    ],
)
def test_how_a_run_ended(status: str, code: int, reason: str, warning: bool) -> None:
    sender = Sender()
    record = RunRecord("r", "c", status=status, exit_code=code, steps=7)
    tell_outcome(sender, record)  # type: ignore[arg-type]
    assert (sender.notes[0].reason, sender.notes[0].warning) == (reason, warning)
    assert sender.closed
