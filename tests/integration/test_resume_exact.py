"""A run that is stopped and resumed is the run that was never stopped, bit for bit on a CPU."""

import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from naics_job.data.sampler import AnchorBatch
from naics_job.errors import CheckpointError, ConfigError
from naics_job.training.callbacks.throughput import ThroughputCallback
from naics_job.training.module import NaicsModule

pytestmark = pytest.mark.integration
LAST_STEP = 21  # three epochs of seven steps; phase 2 from step 9, phase 3 and LoRA from step 17
ACCUMULATING = (
    "training.trainer.accumulate_grad_batches=2",
    "data_loader.batch_size=4",
    "model.lora.start_phase=2",
    "loss.learn_curvature=true",
    "false_negatives.strategy=hybrid",
    "model.gradient_checkpointing=true",
)
Interrupt = Callable[..., None]


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Interrupt:
    """Do something at the end of an optimizer step, before the step is recorded."""
    original = ThroughputCallback.on_train_batch_end

    def arrange(step: int | None, action: Callable[[], Any] = lambda: None) -> None:
        def patched(self: ThroughputCallback, trainer: Any, *args: Any) -> None:
            original(self, trainer, *args)
            if trainer.global_step == step:
                action()

        monkeypatch.setattr(ThroughputCallback, "on_train_batch_end", patched)

    return arrange


def crash() -> None:
    raise RuntimeError("out of luck")


def stop(number: signal.Signals) -> Callable[[], None]:
    return lambda: signal.raise_signal(number)


STOPS: list[tuple[int, Callable[[], None], int]] = [
    (3, stop(signal.SIGINT), 130),  # within an epoch, phase 1
    (7, stop(signal.SIGTERM), 143),  # end of an epoch
    (9, stop(signal.SIGINT), 130),  # phase 2 begins
    (12, stop(signal.SIGTERM), 143),  # phase 2, negatives are mined
    (13, crash, 70),  # nothing saved since step 12
    (14, stop(signal.SIGINT), 130),  # end of an epoch that is evaluated
    (17, stop(signal.SIGTERM), 143),  # phase 3 and LoRA begin
    (19, stop(signal.SIGINT), 130),  # clusters are in use, adapters train
]


def comparable(payload: dict[str, Any]) -> dict[str, Any]:
    """The parts of a checkpoint that decide how training goes on."""
    evaluation = payload["callbacks"]["EvaluationCallback"]
    named = ("state_dict", "optimizer_states", "lr_schedulers", "clusters", "global_step")
    return {name: payload[name] for name in named} | {
        "position": payload["NaicsDataModule"],
        "evaluation": evaluation,
    }


def differences(left: Any, right: Any, where: str = "") -> list[str]:
    if isinstance(left, torch.Tensor):
        return [] if torch.equal(left, right) else [where]
    if isinstance(left, dict):
        if left.keys() != right.keys():
            return [f"keys of {where}"]
        return [d for key in left for d in differences(left[key], right[key], f"{where}.{key}")]
    if isinstance(left, list | tuple):
        if len(left) != len(right):
            return [f"length of {where}"]
        pairs = enumerate(zip(left, right, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{where}[{i}]")]
    same = left == right or (isinstance(left, float) and math.isnan(left) and math.isnan(right))
    return [] if same else [where]


@pytest.mark.parametrize(
    ("overrides", "stops"),
    [((), STOPS), (ACCUMULATING, [STOPS[0], STOPS[1], STOPS[3], STOPS[7]])],
    ids=["every phase", "accumulating"],
)
def test_stops_change_nothing(
    run_tiny: Any,
    at_step: Interrupt,
    tmp_path: Path,
    overrides: tuple[str, ...],
    stops: list[tuple[int, Callable[[], None], int]],
) -> None:
    straight = run_tiny(tmp_path / "straight", *overrides)
    assert straight.error is None
    assert list(straight.losses) == list(range(LAST_STEP))
    assert straight.record["restarts"] == 0
    assert straight.payload["clusters"]["epoch"] == 2

    ckpt_path, saved = None, 0
    for step, action, exit_code in stops:
        at_step(step, action)
        if exit_code == 70:
            with pytest.raises(RuntimeError, match="out of luck"):
                run_tiny(tmp_path / "stopped", *overrides, ckpt_path=ckpt_path)
        else:
            part = run_tiny(tmp_path / "stopped", *overrides, ckpt_path=ckpt_path)
            assert part.error is not None
            assert part.error.exit_code == exit_code
            assert f"after step {step}" in str(part.error)
            assert part.record["status"] == "stopped"
            assert part.record["exit_code"] == exit_code
            assert part.record["steps"] == step
            assert part.payload["global_step"] == step
            saved += 1
        ckpt_path = "last"
    at_step(None)
    resumed = run_tiny(tmp_path / "stopped", *overrides, ckpt_path="last")

    assert resumed.losses == straight.losses
    assert differences(comparable(resumed.payload), comparable(straight.payload)) == []
    record, wanted = resumed.record, straight.record
    assert record["restarts"] == saved
    assert record["run_id"] == resumed.checkpoint.parent.name
    for key in ("status", "steps", "epochs", "metrics", "health", "baseline"):
        assert record[key] == wanted[key]
    spans = [(span["phase"], span["first_step"], span["last_step"]) for span in record["phases"]]
    assert spans == [(1, 0, 8), (2, 9, 16), (3, 17, 20)]
    embeddings = [out.folder / "outputs/smoke/embeddings.parquet" for out in (resumed, straight)]
    points = [read_points(path) for path in embeddings]
    assert (points[0] == points[1]).all()


def read_points(path: Path) -> Any:
    from naics_job.export.embeddings import read_embeddings

    return read_embeddings(str(path)).points


def test_same_seed_same_run_and_another_seed_another(run_tiny: Any, tmp_path: Path) -> None:
    short = ("training.trainer.max_epochs=1", "model.lora.start_phase=1")
    torch.manual_seed(1)  # what ran before in this process must not matter
    first = run_tiny(tmp_path / "a", *short)
    torch.manual_seed(2)
    again = run_tiny(tmp_path / "b", *short)
    other = run_tiny(tmp_path / "c", *short, "seed=7")
    assert first.losses == again.losses
    assert differences(first.weights, again.weights) == []
    adapters = [name for name in first.weights if ".lora_A." in name]
    assert adapters
    assert not any(torch.equal(first.weights[name], other.weights[name]) for name in adapters)


def test_more_epochs_keep_the_borders_until_asked_to_rescale(
    run_tiny: Any, at_step: Interrupt, tmp_path: Path
) -> None:
    straight = run_tiny(tmp_path / "straight")
    at_step(12, stop(signal.SIGTERM))
    for name in ("longer", "rescaled"):
        run_tiny(tmp_path / name)
    at_step(None)

    four = "training.trainer.max_epochs=4"
    longer = run_tiny(tmp_path / "longer", four, ckpt_path="last")
    assert longer.error is None
    assert [span["first_step"] for span in longer.record["phases"]] == [0, 9, 17]
    assert longer.record["steps"] == 28
    assert {step: longer.losses[step] for step in range(LAST_STEP)} == straight.losses

    at_step(24, stop(signal.SIGTERM))
    moved = (four, "curriculum.rescale=true")
    run_tiny(tmp_path / "rescaled", *moved, ckpt_path="last")
    at_step(None)
    rescaled = run_tiny(tmp_path / "rescaled", four, ckpt_path="last")  # the new borders stay
    assert [span["first_step"] for span in rescaled.record["phases"]] == [0, 9, 23]
    assert rescaled.record["phases"][-1]["last_step"] == 27
    assert rescaled.losses[18] != straight.losses[18]  # still phase 2, adapters rest


def test_a_length_in_steps_resumes_as_one_in_epochs_does(
    run_tiny: Any, at_step: Interrupt, tmp_path: Path
) -> None:
    """The 21 steps of three epochs: stopped by a signal, and ended within and after an epoch."""
    straight = run_tiny(tmp_path / "straight")
    ckpt_path = None
    for stop_at, max_steps in ((3, 21), (None, 7), (None, 11), (17, 21), (None, 21)):
        at_step(stop_at, stop(signal.SIGTERM))
        length = ("training.trainer.max_epochs=-1", f"training.trainer.max_steps={max_steps}")
        out = run_tiny(tmp_path / "steps", *length, ckpt_path=ckpt_path)
        assert out.record["steps"] == (stop_at or max_steps)
        ckpt_path = "last"
    assert out.losses == straight.losses
    assert differences(out.weights, straight.weights) == []
    assert [span["first_step"] for span in out.record["phases"]] == [0, 9, 17]


def test_a_smaller_batch_size_takes_the_same_steps_in_more_parts(
    run_tiny: Any, at_step: Interrupt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resumed within and after an epoch, encoding smaller and larger pieces than before."""
    seen: dict[int, list[int]] = {}  # optimizer step -> positions of its anchors
    parts: dict[int, int] = {}
    original = NaicsModule.training_step

    def noting(self: NaicsModule, batch: AnchorBatch, batch_idx: int) -> Any:
        seen.setdefault(self.trainer.global_step, []).extend(batch.anchors.tolist())
        parts[self.trainer.global_step] = self.step_encoder.parts
        return original(self, batch, batch_idx)

    monkeypatch.setattr(NaicsModule, "training_step", noting)
    whole = run_tiny(tmp_path / "straight")
    straight, ckpt_path = dict(seen), None
    seen.clear()
    parts.clear()
    for stop_at, size in ((3, 8), (7, 2), (11, 4), (14, 8), (None, 4)):
        at_step(stop_at, stop(signal.SIGTERM))
        out = run_tiny(tmp_path / "cut", f"data_loader.batch_size={size}", ckpt_path=ckpt_path)
        assert out.record["steps"] == (stop_at or LAST_STEP)
        assert out.payload["NaicsDataModule"]["position"] == 8 * ((stop_at or LAST_STEP) % 7)
        ckpt_path = "last"
    assert seen == straight
    assert out.losses == pytest.approx(whole.losses, rel=1e-4)
    assert list(parts.values()) == [1] * 3 + [4] * 4 + [2] * 4 + [1] * 3 + [2] * 7


@pytest.mark.parametrize(
    ("setting", "steps"),
    [
        ("max_time=00:00:00:00", 0),
        ("fast_dev_run=2", 2),
        ("overfit_batches=2", 6),
        ("deterministic=true", LAST_STEP),
        ("detect_anomaly=true", LAST_STEP),
        ("precision=bf16-mixed", LAST_STEP),
    ],
)
def test_other_arguments_of_the_trainer_work(
    run_tiny: Any, tmp_path: Path, setting: str, steps: int
) -> None:
    out = run_tiny(tmp_path, f"training.trainer.{setting}")
    torch.use_deterministic_algorithms(False)
    torch.autograd.set_detect_anomaly(False)
    assert out.error is None
    assert out.record["steps"] == steps


def test_a_finished_run_is_exported_again_and_says_so(
    run_tiny: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    short = "training.trainer.max_epochs=1"
    first = run_tiny(tmp_path, short)
    metrics = first.record["metrics"]
    (tmp_path / "outputs/smoke/embeddings.parquet").unlink()
    again = run_tiny(tmp_path, short, ckpt_path="last")
    assert "run.nothing_to_train" in caplog.text
    assert again.record["status"] == "finished"
    assert again.record["metrics"] == metrics
    assert again.record["steps"] == 7
    assert (tmp_path / "outputs/smoke/embeddings.parquet").exists()


def test_asking_twice_does_not_wait_for_the_step(
    run_tiny: Any, at_step: Interrupt, tmp_path: Path
) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    at_step(7, twice)
    with pytest.raises(KeyboardInterrupt):
        run_tiny(tmp_path)
    at_step(None)
    out = run_tiny(tmp_path, ckpt_path="last")
    assert out.error is None
    assert out.record["steps"] == LAST_STEP
    assert list(out.losses) == list(range(LAST_STEP))


def test_a_resume_refuses_what_would_not_be_exact(
    run_tiny: Any, at_step: Interrupt, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    at_step(3, stop(signal.SIGTERM))
    stopped = run_tiny(tmp_path)
    at_step(None)
    other_data = run_tiny(tmp_path, "data.max_codes=50", f"dirs.data_dir={tmp_path}/data",
                          ckpt_path="last")  # fmt: skip
    assert isinstance(other_data.error, ConfigError)
    for split in ("seed=7", "data_loader.val_split=0.2", "data_loader.test_split=0.3"):
        other_split = run_tiny(tmp_path, split, ckpt_path="auto")
        assert isinstance(other_split.error, ConfigError)
        assert "heldout_digest" in str(other_split.error)
        assert "seed, data_loader.val_split and data_loader.test_split" in other_split.error.hint
    other_model = run_tiny(tmp_path, "model.moe.hidden_dim=8", ckpt_path="last")
    assert isinstance(other_model.error, CheckpointError)
    assert "another architecture" in str(other_model.error)
    assert other_model.record["status"] == "failed"
    assert other_model.record["exit_code"] == 74
    assert stopped.payload["global_step"] == 3
    cut = run_tiny(tmp_path, "training.trainer.accumulate_grad_batches=3", ckpt_path="last")
    assert isinstance(cut.error, ConfigError)
    assert "the global batch of 8 anchors, fixed at the first start" in str(cut.error)
    uneven = run_tiny(tmp_path, "data_loader.batch_size=3", ckpt_path="last")
    assert isinstance(uneven.error, ConfigError)
    assert "data_loader.batch_size=2 or 4" in str(uneven.error)
    run_tiny(tmp_path, "training.learning_rate=1e-3", "training.trainer.max_epochs=1",
             ckpt_path="last")  # fmt: skip
    assert "resume.settings_changed" in caplog.text
