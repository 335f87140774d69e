"""Which phase the seconds and the scalars of a step are put down to."""

import json
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from naics_job.config.load import load_config
from naics_job.curriculum.schedule import Borders, Curriculum
from naics_job.observability.logs import JsonFormatter, unbind_all
from naics_job.training.callbacks import curriculum
from naics_job.training.callbacks.curriculum import CurriculumCallback

STEPS = 5  # phase 1: steps 0 and 1, phase 2: 2 and 3, phase 3: 4


@pytest.fixture(autouse=True)
def _unbound() -> Iterator[None]:
    yield
    unbind_all()


class FakeRun:
    """Steps of one second and as long a wait before each, with the callback attached."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, accumulate: int = 1) -> None:
        config = load_config(None, "smoke").config
        borders = Borders.planned(config.curriculum, STEPS, None)
        rule = Curriculum(config.curriculum, config.sampling, borders)
        self.now, self.accumulate = 100.0, accumulate
        self.logged: list[dict[str, float]] = []
        self.trainer: Any = SimpleNamespace(global_step=0)
        self.module: Any = SimpleNamespace(
            phase_state=lambda: rule.at(self.trainer.global_step),
            curriculum=SimpleNamespace(should_cluster=lambda *at: False),
            clusters=SimpleNamespace(epoch=-1),
            planner=SimpleNamespace(num_masked=0),
            log_dict=lambda values, batch_size: self.logged.append(values),
        )
        monkeypatch.setattr(curriculum, "naics_module", lambda module: module)
        monkeypatch.setattr(curriculum.time, "monotonic", lambda: self.now)
        self.callback = CurriculumCallback()

    def run(self, steps: int = STEPS) -> None:
        self.callback.on_train_start(self.trainer, self.module)
        for number in range(steps * self.accumulate):
            batch = SimpleNamespace(index=1, start=0, epoch=0)
            self.now += 1
            self.callback.on_train_batch_start(self.trainer, self.module, batch, number)
            self.now += 1
            self.trainer.global_step += (number + 1) % self.accumulate == 0
            self.callback.on_train_batch_end(self.trainer, self.module, None, batch, number)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_every_second_belongs_to_the_phase_of_its_step(
    accumulate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeRun(monkeypatch, accumulate)
    fake.run()
    spans = [(s.phase, s.first_step, s.last_step, s.seconds) for s in fake.callback.spans]
    seconds = [count * accumulate * 2.0 for count in (2, 2, 1)]
    assert spans == [(1, 0, 1, seconds[0]), (2, 2, 3, seconds[1]), (3, 4, 4, seconds[2])]


def test_scalars_are_those_the_step_was_trained_with(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRun(monkeypatch)
    fake.run()
    assert [row["curriculum/phase"] for row in fake.logged] == [1, 1, 2, 2, 3]
    assert fake.logged[0]["curriculum/phase_progress"] == 0
    assert fake.logged[1]["curriculum/hard_share"] == 0
    assert fake.logged[2]["curriculum/hard_share"] > 0


def test_every_log_line_says_in_which_step_and_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRun(monkeypatch)
    fake.run(4)
    record = logging.LogRecord("naics_job.x", logging.INFO, "x.py", 1, "something", None, None)
    line = json.loads(JsonFormatter(0).format(record))
    assert (line["step"], line["phase"]) == (3, 2)


def test_a_resume_goes_on_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    first = FakeRun(monkeypatch)
    first.run(3)
    second = FakeRun(monkeypatch)
    second.callback.load_state_dict(first.callback.state_dict())
    second.trainer.global_step = 3
    second.run(1)
    assert [(s.phase, s.last_step, s.seconds) for s in second.callback.spans] == [
        (1, 1, 4.0), (2, 3, 4.0),
    ]  # fmt: skip
