"""How runs fail, stop early, start from other runs and read their settings."""

import json
import logging
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Timer

from naics_job.checkpoint.lease import decode, run_lease
from naics_job.checkpoint.manifest import MANIFEST_SUFFIX
from naics_job.errors import CheckpointError, TransientError
from naics_job.loss.hierarchy import HierarchyLoss
from naics_job.loss.objective import NonFiniteLossError
from naics_job.training import publish
from naics_job.training.callbacks.throughput import ThroughputCallback
from naics_job.training.encoding import EncodedStep, StepEncoder

pytestmark = pytest.mark.integration
ONE_EPOCH = "training.trainer.max_epochs=1"


def test_a_non_finite_loss_names_step_term_and_codes(
    run_tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = HierarchyLoss.forward, []

    def forward(self: HierarchyLoss, *inputs: torch.Tensor) -> torch.Tensor:
        calls.append(0)
        return original(self, *inputs) * (float("nan") if len(calls) == 6 else 1.0)

    monkeypatch.setattr(HierarchyLoss, "forward", forward)
    out = run_tiny(tmp_path, ONE_EPOCH)
    assert isinstance(out.error, NonFiniteLossError)
    assert out.error.term == "hierarchy"
    assert "hierarchy is nan at step 5; anchors of the batch: 11" in str(out.error)
    message = str(out.error).splitlines()[0]
    assert message.split("batch: ")[1].count(", ") == 7  # eight codes
    record = out.record
    assert (record["status"], record["exit_code"], record["steps"]) == ("failed", 70, 5)
    assert "hierarchy is nan at step 5" in record["error"]
    assert out.payload["global_step"] == 5  # what was saved before is whole
    assert len(out.losses) == 5


def test_a_second_run_of_one_name_is_refused_and_touches_nothing(
    run_tiny: Any, tmp_path: Path
) -> None:
    """Before data are prepared, and without a record over that of the run under way."""
    root, ttl = tmp_path / "checkpoints/smoke", "checkpoint.lease_ttl_s=3"
    with run_lease(str(root), "run-a", 3.0, True) as held:
        out = run_tiny(tmp_path, ONE_EPOCH, ttl)
        assert isinstance(out.error, CheckpointError)
        assert "run run-a, process" in str(out.error)
        held.require()
    assert [entry.name for entry in root.iterdir()] == ["lease"]
    assert not (tmp_path / "outputs").exists()


def test_a_run_that_loses_its_lease_writes_no_more_checkpoints(
    run_tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, overtaken = tmp_path / "checkpoints/smoke", list[int]()
    original = StepEncoder.step

    def step(self: StepEncoder, *inputs: Any) -> Any:
        if not overtaken:  # as if this process had slept, and another had gone on
            overtaken.append(1)
            own = decode((root / "lease/00000001.json").read_bytes())
            assert own is not None
            (root / "lease/00000002.json").write_bytes(replace(own, nonce="another").encode())
        return original(self, *inputs)

    monkeypatch.setattr(StepEncoder, "step", step)
    out = run_tiny(tmp_path, ONE_EPOCH)
    assert isinstance(out.error, CheckpointError)
    assert "has lost its lease" in str(out.error)
    assert list(root.rglob("*.ckpt")) == []
    assert out.record["exit_code"] == 74


def test_an_unexpected_failure_is_recorded_too(
    run_tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("oops")

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(StepEncoder, "step", fail)
    with pytest.raises(ZeroDivisionError):
        run_tiny(tmp_path, ONE_EPOCH)
    record = json.loads((tmp_path / "outputs/smoke/run_record.json").read_text())
    assert (record["status"], record["exit_code"]) == ("failed", 70)
    assert record["error"] == "ZeroDivisionError: oops"
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_full_disk_while_saving_is_a_checkpoint_error(
    run_tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    out = run_tiny(tmp_path, ONE_EPOCH)
    assert isinstance(out.error, CheckpointError)
    assert "No space left" in str(out.error)
    assert out.record["exit_code"] == 74


def test_early_stopping_ends_a_run_that_is_finished(run_tiny: Any, tmp_path: Path) -> None:
    early = ("enabled=true", "patience=1", "metric=all/parent@1")
    settings = [f"training.early_stopping.{setting}" for setting in early]
    settings += ["model.eval_every_n_epochs=1", "training.trainer.max_epochs=6"]
    settings += ["training.learning_rate=1e-9", "training.scale_learning_rate=1e-9"]
    settings += ["model.lora.start_phase=3", "curriculum.phase2_end=1.0"]
    out = run_tiny(tmp_path, *settings)
    assert out.error is None
    record = out.record
    assert record["status"] == "finished"
    assert record["epochs"] == 2  # the second evaluation is no better than the first
    assert record["metrics"]["all"]["map"] > 0
    assert (tmp_path / "outputs/smoke/embeddings.parquet").exists()
    run_tiny(tmp_path, *settings, ckpt_path="auto")
    assert out.record == record
    (tmp_path / "outputs/smoke/embeddings.parquet").unlink()
    again = run_tiny(tmp_path, *settings, ckpt_path="last")
    assert (again.record["status"], again.record["steps"]) == ("finished", record["steps"])
    assert again.record["metrics"] == record["metrics"]
    assert (tmp_path / "outputs/smoke/embeddings.parquet").exists()
    more = run_tiny(tmp_path, *settings, "training.trainer.max_epochs=7", ckpt_path="auto")
    assert more.record["steps"] > record["steps"]


def test_a_warm_start_trains_on_what_its_adapters_say(
    run_tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_tiny(tmp_path / "first", ONE_EPOCH, "model.lora.start_phase=1")
    rests = ("model.lora.start_phase=3", "curriculum.phase2_end=1.0")
    seen: list[bool] = []  # whether the texts of a step stand as the frozen encoder sees them
    original = StepEncoder.step

    def step(self: StepEncoder, *inputs: Any) -> EncodedStep:
        encoded = original(self, *inputs)
        seen.append(torch.allclose(encoded.queries.text, encoded.frozen_queries, atol=1e-3))
        return encoded

    monkeypatch.setattr(StepEncoder, "step", step)
    warm = run_tiny(tmp_path / "warm", ONE_EPOCH, *rests, ckpt_path=str(first.checkpoint))
    frozen = run_tiny(tmp_path / "frozen", ONE_EPOCH, *rests)
    assert warm.error is frozen.error is None
    assert seen == [False] * 7 + [True] * 7
    adapters = {name: value for name, value in warm.weights.items() if ".lora_" in name}
    assert all(torch.equal(value, first.weights[name]) for name, value in adapters.items())
    assert any(bool(value.any()) for name, value in adapters.items() if ".lora_B." in name)
    assert warm.record["warm_start"] == str(first.checkpoint)
    assert warm.record["run_id"] != first.record["run_id"]


def test_a_warm_start_moves_to_another_number_of_codes(run_tiny: Any, tmp_path: Path) -> None:
    """Its memory is filled anew, also where the adapters have trained: one step meets few codes."""
    first = run_tiny(tmp_path / "first", ONE_EPOCH, "model.lora.start_phase=1")
    short = (ONE_EPOCH, "training.trainer.limit_train_batches=1", "curriculum.phase1_end=1.0",
             "curriculum.phase2_end=1.0", "data_loader.val_split=0",
             "data_loader.test_split=0")  # fmt: skip
    smaller = ("data.max_codes=50", f"dirs.data_dir={tmp_path}/data")
    warm = run_tiny(tmp_path / "warm", *short, *smaller, ckpt_path=str(first.checkpoint))
    assert warm.error is None
    filled = warm.weights["bank.filled"]
    assert len(filled) < len(first.weights["bank.filled"])
    assert bool(filled.all())


@pytest.mark.parametrize("bare", [True, False])
def test_a_warm_start_tells_of_held_out_codes_that_were_trained(
    run_tiny: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, bare: bool
) -> None:
    """Also from a file that was copied without its manifest, and along a chain of warm starts."""
    short = (ONE_EPOCH, "training.trainer.limit_train_batches=1")
    first = run_tiny(tmp_path / "first", *short).checkpoint
    if bare:
        first = first.rename(tmp_path / "own.ckpt")
    for start, split, trained in (("same", "seed=42", False), ("other", "seed=7", True)):
        caplog.clear()
        warm = run_tiny(tmp_path / start, *short, split, ckpt_path=str(first))
        assert ("heldout.trained_before" in caplog.text) is trained
        assert (warm.record["heldout_trained_before"] > 0) is trained
    again = run_tiny(tmp_path / "third", *short, "seed=7", ckpt_path=str(warm.checkpoint))
    assert again.record["heldout_trained_before"] == warm.record["heldout_trained_before"]


def test_a_warm_start_file_of_another_model_is_refused(run_tiny: Any, tmp_path: Path) -> None:
    first = run_tiny(tmp_path / "first", ONE_EPOCH)
    for manifest in (True, False):
        if not manifest:
            Path(f"{first.checkpoint}{MANIFEST_SUFFIX}").unlink()
        out = run_tiny(
            tmp_path / "other", "model.moe.hidden_dim=8", ckpt_path=str(first.checkpoint)
        )
        assert isinstance(out.error, CheckpointError)
        assert "another architecture" in str(out.error)
    nothing = tmp_path / "nothing.ckpt"
    torch.save({"weights": torch.zeros(2)}, nothing)
    out = run_tiny(tmp_path / "other", ckpt_path=str(nothing))
    assert isinstance(out.error, CheckpointError)
    assert "holds no weights" in str(out.error)


def test_runs_of_one_experiment_live_side_by_side(run_tiny: Any, tmp_path: Path) -> None:
    first = run_tiny(tmp_path, ONE_EPOCH).checkpoint.parent
    kept = {file: file.read_bytes() for file in first.iterdir()}
    second = run_tiny(tmp_path, ONE_EPOCH).checkpoint.parent
    assert second != first
    auto = run_tiny(tmp_path, "training.trainer.max_epochs=2", ckpt_path="auto")
    assert auto.record["run_id"] == second.name
    assert auto.record["steps"] == 14
    assert {file: file.read_bytes() for file in first.iterdir()} == kept


def test_auto_starts_what_never_ran_and_last_refuses(run_tiny: Any, tmp_path: Path) -> None:
    out = run_tiny(tmp_path / "last", ONE_EPOCH, ckpt_path="last")
    assert isinstance(out.error, CheckpointError)
    assert "no checkpoint in" in str(out.error)
    assert not (tmp_path / "last/outputs").exists()  # no run began, so there is no record
    out = run_tiny(tmp_path / "auto", ONE_EPOCH, ckpt_path="auto")
    assert out.error is None
    assert out.record["restarts"] == 0


def test_auto_leaves_a_finished_run_alone(
    run_tiny: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As when the pod of a finished job is started again."""
    run_tiny(tmp_path, ONE_EPOCH)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    caplog.set_level(logging.INFO, "naics_job")
    again = run_tiny(tmp_path, ONE_EPOCH, ckpt_path="auto")
    assert again.error is None
    assert "run.already_finished" in caplog.text
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_run_whose_exports_failed_is_not_finished(
    run_tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: Any) -> None:
        raise TransientError("connection reset")

    monkeypatch.setattr(publish, "publish", unreachable)
    assert isinstance(run_tiny(tmp_path, ONE_EPOCH).error, TransientError)
    monkeypatch.undo()
    again = run_tiny(tmp_path, ONE_EPOCH, ckpt_path="auto")
    assert again.record["exports"]


def test_a_run_that_a_time_limit_ended_goes_on_when_it_is_raised(
    run_tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = run_tiny(tmp_path / "straight")
    original = Timer.on_train_batch_end

    def late(self: Timer, trainer: Any, *rest: Any) -> None:
        self._offset = 3600 if trainer.global_step == 7 else 0
        original(self, trainer, *rest)

    monkeypatch.setattr(Timer, "on_train_batch_end", late)
    limited = "training.trainer.max_time=00:01:00:00"
    folder = tmp_path / "stopped"
    for ckpt_path in (None, "auto"):  # a restart within the same limit is no restart
        stopped = run_tiny(folder, limited, ckpt_path=ckpt_path)
        record = stopped.record
        assert stopped.error is None
        assert (record["status"], record["exit_code"], record["steps"]) == ("stopped", 0, 7)
        assert "max_time ended the run after step 7 of 21" in record["error"]
        assert record["exports"]
        assert (stopped.checkpoint.parent / "finished.json").exists()  # as far as was asked
    more = run_tiny(folder, "training.trainer.max_time=00:03:00:00", ckpt_path="auto")
    assert more.losses == straight.losses
    assert more.record["status"] == "finished"
    assert (more.checkpoint.parent / "finished.json").exists()


def test_part_of_an_epoch_resumes_at_its_end_too(
    run_tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = ("training.trainer.limit_train_batches=4", "checkpoint.max_lost_steps=8")
    straight = run_tiny(tmp_path / "straight", *limited)
    assert straight.record["steps"] == 12
    spans = [(span["phase"], span["first_step"]) for span in straight.record["phases"]]
    assert spans == [(1, 0), (2, 5), (3, 10)]  # of the 12 steps that there are
    original = ThroughputCallback.on_train_batch_end
    for stop_after, ckpt_path in ((4, None), (6, "last"), (None, "last")):

        def stopping(
            self: ThroughputCallback, trainer: Any, *rest: Any, at: int | None = stop_after
        ) -> None:
            original(self, trainer, *rest)
            if trainer.global_step == at:
                signal.raise_signal(signal.SIGTERM)

        monkeypatch.setattr(ThroughputCallback, "on_train_batch_end", stopping)
        out = run_tiny(tmp_path / "stopped", *limited, ckpt_path=ckpt_path)
    assert out.losses == straight.losses
    assert all(torch.equal(value, out.weights[name]) for name, value in straight.weights.items())
