"""When a run is saved, and what a signal does, without a run."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from naics_job.checkpoint import uploader
from naics_job.checkpoint.uploader import Uploader
from naics_job.errors import CheckpointError, TransientError
from naics_job.stopping import Stop, StoppedBySignalError
from naics_job.training.callbacks.checkpointing import CheckpointCallback
from naics_job.training.snapshot import SnapshotIO


class FakeStore:
    """Notes what is saved; fails when told."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.error: CheckpointError | None = None

    def save(self, local_file: Path, facts: Any) -> Any:
        if self.error is not None:
            raise self.error
        assert local_file.read_text() == "state"
        self.steps.append(facts.step)
        return SimpleNamespace(step=facts.step, path=f"run/{facts.step}.ckpt", size_bytes=5)


class FakeRun:
    """A trainer that steps when told, with the callback attached."""

    made: ClassVar[list["FakeRun"]] = []

    def __init__(
        self, every: int, accumulate: int = 1, epoch_batches: int = 100, max_failures: int = 3
    ) -> None:
        FakeRun.made.append(self)
        self.store, self.stop, self.snapshots = FakeStore(), Stop(), SnapshotIO()
        self.uploader = Uploader(self.store, max_failures)  # type: ignore[arg-type]
        describe: Any = lambda trainer: SimpleNamespace(step=trainer.global_step)  # noqa: E731
        parts = (self.uploader, 2 * every, describe, self.stop, 5.0, self.snapshots)
        self.callback = CheckpointCallback(*parts)
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

    def end(self) -> None:
        self.callback.on_train_end(self.trainer, None)  # type: ignore[arg-type]

    def stored(self) -> list[int]:
        """Steps in the store once nothing waits."""
        self.uploader.flush(lambda: 10.0)
        return self.store.steps

    def tell(self, number: int) -> None:
        """A signal while a run trains."""
        self.stop._remembers = True
        self.stop.tell(number)

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
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No pauses between tries; what a run has opened is closed at the end of the test."""
    monkeypatch.setattr(uploader, "BASE_S", 0.0)
    yield
    for fake in FakeRun.made:
        fake.callback.teardown(fake.trainer, None, "fit")  # type: ignore[arg-type]
        fake.stop.close()
    FakeRun.made.clear()


def test_saves_at_the_interval_and_at_the_end() -> None:
    fake = FakeRun(every=3)
    fake.run(4)
    assert fake.stored() == [3]
    fake.run(3)
    assert fake.stored() == [3, 6]
    fake.end()
    assert fake.store.steps == [3, 6, 7]
    newest = fake.uploader.newest
    assert newest is not None
    assert newest.step == 7
    fake.end()
    assert fake.store.steps == [3, 6, 7]
    assert len(fake.callback.block_seconds) == 3


def test_saves_once_per_step_when_gradients_accumulate() -> None:
    fake = FakeRun(every=1, accumulate=4)
    for _ in range(9):
        fake.run(1)
        fake.stored()
    assert fake.store.steps == [1, 2]
    assert len(fake.recorded) == 9  # every micro-batch moves the position


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_stops_after_the_step(number: int, code: int) -> None:
    fake = FakeRun(every=100)
    fake.run(4)
    fake.tell(number)
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
    fake.tell(signal.SIGTERM)
    with pytest.raises(StoppedBySignalError):
        fake.run(1)
    assert fake.store.steps == [5]


def test_a_signal_within_an_accumulated_step_waits_for_its_end() -> None:
    fake = FakeRun(every=100, accumulate=4)
    fake.run(5)
    fake.tell(signal.SIGTERM)
    fake.run(2)
    with pytest.raises(StoppedBySignalError, match="after step 2"):
        fake.run(1)
    assert fake.store.steps == [2]


def test_the_last_step_of_an_epoch_may_be_shorter() -> None:
    fake = FakeRun(every=100, accumulate=4, epoch_batches=6)
    fake.run(5)
    fake.tell(signal.SIGTERM)
    with pytest.raises(StoppedBySignalError, match="after step 2"):
        fake.run(1)
    assert fake.recorded[-1] is True


@pytest.mark.parametrize("ending", ["teardown", "on_exception"])
def test_what_was_handed_over_is_stored_before_the_end(ending: str) -> None:
    fake = FakeRun(every=2)
    fake.run(2)
    arguments = {"teardown": "fit", "on_exception": ValueError()}
    if ending == "teardown":
        fake.end()
    getattr(fake.callback, ending)(fake.trainer, None, arguments[ending])
    assert fake.store.steps == [2]


def test_a_failing_store_does_not_stop_training_and_the_next_save_lands() -> None:
    fake = FakeRun(every=2, max_failures=10**9)
    fake.store.error = CheckpointError("no")
    fake.run(5)
    fake.store.error = None
    fake.run(1)
    assert fake.stored()[-1] == 6
    assert fake.uploader.error is None


def test_too_many_failures_end_the_run_with_their_reason() -> None:
    fake = FakeRun(every=2, max_failures=2)
    fake.store.error = CheckpointError("the bucket is full")
    fake.run(2)
    fake.stored()
    with pytest.raises(CheckpointError, match="the bucket is full"):
        fake.run(1)


def test_a_state_that_cannot_be_written_counts_as_failed_save() -> None:
    fake = FakeRun(every=1, max_failures=2)

    def full(path: Any) -> None:
        fake.snapshots.failure = CheckpointError("no space left")

    fake.trainer.save_checkpoint = full
    fake.run(1)
    assert fake.uploader.num_failures == 1
    with pytest.raises(CheckpointError, match="no space left"):
        fake.run(1)


def test_a_stop_whose_save_fails_says_so() -> None:
    fake = FakeRun(every=100, max_failures=2)
    fake.store.error = CheckpointError("the bucket is gone")
    fake.tell(signal.SIGTERM)
    with pytest.raises(CheckpointError, match="the bucket is gone"):
        fake.run(1)


def test_a_stop_waits_no_longer_than_the_grace_period() -> None:
    fake, over = FakeRun(every=100), threading.Event()

    def hang(*_: object) -> None:
        over.wait(60)
        raise TransientError("it was not the store's day")

    fake.store.save = hang  # type: ignore[method-assign]
    fake.callback.grace_s = 0.3
    fake.tell(signal.SIGTERM)
    with pytest.raises(TransientError, match="no time left to store"):
        fake.run(1)
    fake.uploader.close()
    over.set()


def test_restarts_and_lost_steps_are_counted_along_the_run() -> None:
    state = FakeRun(every=1).callback.state_dict()
    for count in (1, 2, 3):
        resumed = FakeRun(every=1).callback
        resumed.lost_steps = 2
        resumed.load_state_dict(state)
        assert (resumed.restarts, resumed.lost_steps) == (count, 2 * count)
        state = resumed.state_dict()
