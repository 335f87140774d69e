"""When a run is saved, and what a signal does, without a run."""

import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from naics_job.training.callbacks.checkpointing import CheckpointCallback, StoppedBySignalError


class FakeStore:
    """Notes what is saved."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.catalogue = SimpleNamespace(url=lambda path: f"root/{path}")

    def save(self, local_file: Path, facts: Any) -> Any:
        assert local_file.read_text() == "state"
        self.steps.append(facts.step)
        return SimpleNamespace(step=facts.step, path=f"run/{facts.step}.ckpt", size_bytes=5)


class FakeRun:
    """A trainer that steps when told, with the callback attached."""

    def __init__(self, every: int, accumulate: int = 1, epoch_batches: int = 100) -> None:
        self.store = FakeStore()
        describe: Any = lambda trainer: SimpleNamespace(step=trainer.global_step)  # noqa: E731
        self.callback = CheckpointCallback(self.store, every, describe)  # type: ignore[arg-type]
        self.accumulate, self.epoch_batches, self.batch = accumulate, epoch_batches, 0
        self.recorded: list[Any] = []
        self.rows: list[tuple[dict[str, float], int]] = []
        logger = SimpleNamespace(log_metrics=lambda row, step: self.rows.append((row, step)))
        self.trainer: Any = SimpleNamespace(
            global_step=0,
            is_last_batch=False,
            accumulate_grad_batches=accumulate,
            log_every_n_steps=1,
            logged_metrics={"train/total": 1.0},
            loggers=[logger],
            save_checkpoint=lambda path: Path(path).write_text("state"),
            datamodule=SimpleNamespace(record=lambda batch, last: self.recorded.append(last)),
        )
        self.callback.on_train_start(self.trainer, None)  # type: ignore[arg-type]

    def run(self, batches: int) -> None:
        for _ in range(batches):
            index = self.batch % self.epoch_batches
            self.batch += 1
            last = index + 1 == self.epoch_batches
            self.trainer.is_last_batch = last
            if (index + 1) % self.accumulate == 0 or last:
                self.trainer.global_step += 1
            self.callback.on_train_batch_end(self.trainer, None, None, object(), index)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[list[Any]]:
    """The handlers of before, which must be back after a run."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield before
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_saves_at_the_interval_and_at_the_end() -> None:
    fake = FakeRun(every=3)
    fake.run(7)
    assert fake.store.steps == [3, 6]
    fake.callback.on_train_end(fake.trainer, None)  # type: ignore[arg-type]
    assert fake.store.steps == [3, 6, 7]
    assert fake.callback.newest == "root/run/7.ckpt"
    fake.callback.on_train_end(fake.trainer, None)  # type: ignore[arg-type]
    assert fake.store.steps == [3, 6, 7]
    assert len(fake.callback.save_seconds) == 3


def test_saves_once_per_step_when_gradients_accumulate() -> None:
    fake = FakeRun(every=1, accumulate=4)
    fake.run(9)
    assert fake.store.steps == [1, 2]
    assert len(fake.recorded) == 9  # every micro-batch moves the position


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_stops_after_the_step(number: int, code: int) -> None:
    fake = FakeRun(every=100)
    fake.run(4)
    signal.raise_signal(number)
    assert fake.store.steps == []
    with pytest.raises(StoppedBySignalError, match="after step 5") as caught:
        fake.run(1)
    assert caught.value.exit_code == code
    assert "--ckpt-path last" in caught.value.hint
    assert fake.store.steps == [5]
    assert fake.rows == [({"train/total": 1.0}, 4)]


def test_a_step_that_is_saved_already_is_not_saved_again() -> None:
    fake = FakeRun(every=5)
    fake.run(4)
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(StoppedBySignalError):
        fake.run(1)
    assert fake.store.steps == [5]


def test_a_signal_within_an_accumulated_step_waits_for_its_end() -> None:
    fake = FakeRun(every=100, accumulate=4)
    fake.run(5)
    signal.raise_signal(signal.SIGTERM)
    fake.run(2)
    with pytest.raises(StoppedBySignalError, match="after step 2"):
        fake.run(1)
    assert fake.store.steps == [2]


def test_the_last_step_of_an_epoch_may_be_shorter() -> None:
    fake = FakeRun(every=100, accumulate=4, epoch_batches=6)
    fake.run(5)
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(StoppedBySignalError, match="after step 2"):
        fake.run(1)
    assert fake.recorded[-1] is True


def test_a_second_ctrl_c_does_not_wait() -> None:
    FakeRun(every=100)
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_second_sigterm_changes_nothing() -> None:
    fake = FakeRun(every=100)
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(StoppedBySignalError):
        fake.run(1)


@pytest.mark.parametrize("ending", ["teardown", "on_exception"])
def test_signals_are_given_back(ending: str, handlers: list[Any]) -> None:
    fake = FakeRun(every=100)
    assert signal.getsignal(signal.SIGTERM) != handlers[1]
    getattr(fake.callback, ending)(fake.trainer, None, None)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_restarts_are_counted_along_the_run() -> None:
    state = FakeRun(every=1).callback.state_dict()
    for count in (1, 2, 3):
        resumed = FakeRun(every=1).callback
        resumed.load_state_dict(state)
        assert resumed.restarts == count
        state = resumed.state_dict()
