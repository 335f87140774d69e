"""Stages of `train-seq`: lengths, settings, and what each starts from."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from naics_job.checkpoint.manifest import (
    CheckpointFacts,
    CheckpointManifest,
    RunManifest,
    checkpoint_name,
)
from naics_job.checkpoint.store import RunStore
from naics_job.config.load import LoadedConfig, load_config
from naics_job.config.schema import Config
from naics_job.curriculum.schedule import Phase
from naics_job.errors import ConfigError
from naics_job.training import sequence
from naics_job.training.record import RunRecord
from naics_job.training.run import RunOptions
from naics_job.training.sequence import run_sequence, stage_config, stage_epochs


def config(*overrides: str) -> Config:
    return load_config(None, "smoke", list(overrides)).config


@pytest.mark.parametrize(
    ("overrides", "epochs"),
    [
        (["training.trainer.max_epochs=10"], [4, 4, 2]),
        (["training.trainer.max_epochs=1"], [1, 1, 1]),
        (["training.trainer.max_epochs=10", "curriculum.phase2_end=0.4"], [4, None, 6]),
        (["training.trainer.max_epochs=10", "curriculum.phase_mode=two_phase"], [4, 6, None]),
    ],
)
def test_epochs_follow_the_borders(overrides: list[str], epochs: list[int | None]) -> None:
    wanted = {phase: count for phase, count in zip(Phase, epochs, strict=True) if count}
    assert stage_epochs(config(*overrides)) == wanted


def test_a_stage_is_an_experiment_of_its_own() -> None:
    whole = config("curriculum.fn_curriculum_start_epoch=5")
    stage = stage_config(whole, Phase.MITIGATION, 2)
    assert stage.experiment_name == "smoke-stage3"
    assert stage.training.max_epochs == 2
    assert stage.curriculum.fn_curriculum_start_epoch == 0
    never = stage_config(config("curriculum.fn_curriculum_start_epoch=null"), Phase.MITIGATION, 2)
    assert never.curriculum.fn_curriculum_start_epoch is None
    assert stage.training.trainer["devices"] == whole.training.trainer["devices"]
    assert whole.training.max_epochs == 3  # the settings of the whole are as they were


def test_each_stage_starts_from_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[LoadedConfig, RunOptions]] = []

    def run(loaded: LoadedConfig, options: RunOptions) -> RunRecord:
        seen.append((loaded, options))
        record = RunRecord(run_id=str(len(seen)), config_hash=loaded.hash)
        record.checkpoint = f"{loaded.config.experiment_name}.ckpt"
        return record

    monkeypatch.setattr(sequence, "run_training", run)
    records = run_sequence(load_config(None, "smoke", []), RunOptions("first.ckpt", True))
    assert [options.ckpt_path for _, options in seen] == [
        "first.ckpt",
        "smoke-stage1.ckpt",
        "smoke-stage2.ckpt",
    ]
    assert [options.only_phase for _, options in seen] == list(Phase)
    assert all(options.skip_validation for _, options in seen)
    assert len({record.config_hash for record in records}) == 3


class Chain:
    """Stages with checkpoints on disk, and a `run_training` that only notes what it is given."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.starts = folder, dict[str, str | None]()
        self.loaded = load_config(None, "smoke", [f"dirs.checkpoint_dir={folder}/checkpoints"])
        monkeypatch.setattr(sequence, "run_training", self._run)

    def _run(self, loaded: LoadedConfig, options: RunOptions) -> RunRecord:
        name = loaded.config.experiment_name
        self.starts[name] = options.ckpt_path
        record = RunRecord(run_id=name, config_hash=loaded.hash, status="finished")
        record.checkpoint = str(self._root(name) / "run" / f"{checkpoint_name(7)}.ckpt")
        if not Path(record.checkpoint).exists():
            self.save(int(name[-1]))
        return record

    def _root(self, name: str) -> Path:
        return self.folder / "checkpoints" / name

    def save(self, stage: int, warm_start: str = "") -> CheckpointManifest:
        """Give a stage a run with one checkpoint."""
        store = RunStore(str(self._root(f"smoke-stage{stage}")), "run", 2)
        digests: Any = {"config_hash": "", "base_model_sha256": "", "data_digest": ""}
        sizes: Any = {"borders": {}, "global_batch_size": 8, "total_steps": 7}
        at: Any = {"run_id": "run", "created_at": "", "warm_start": warm_start}
        store.start_run(RunManifest(**digests, **sizes, **at))
        local = self.folder / "state.ckpt"
        local.write_text(f"weights of stage {stage}")
        facts: Any = {"step": 7, "epoch": 1, "position": 0, "phase": 1, "borders": {}}
        rest: Any = {"config_hash": "", "architecture": "", "versions": {}}
        world: Any = {"world_size": 1, "global_batch_size": 8}
        return store.save(local, CheckpointFacts(**facts, **rest, **world))

    def started(self, ckpt_path: str) -> list[str | None]:
        """What each stage starts from: last, auto, or the number of the stage with the weights."""
        run_sequence(self.loaded, RunOptions(ckpt_path))
        places = list(self.starts.values())
        return [p if p in ("last", "auto", None) else Path(p).parts[-3][-6:] for p in places]


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chain:
    return Chain(tmp_path, monkeypatch)


@pytest.mark.parametrize("start", ["last", "auto"])
def test_a_chain_that_never_began_starts_like_a_run(chain: Chain, start: str) -> None:
    assert chain.started(start) == [start, "stage1", "stage2"]


@pytest.mark.parametrize("start", ["last", "auto"])
def test_a_chain_goes_on_where_it_stopped(chain: Chain, start: str) -> None:
    first = chain.save(1)
    assert chain.started(start) == ["auto", "stage1", "stage2"]
    shutil.rmtree(chain.folder / "checkpoints/smoke-stage2")
    shutil.rmtree(chain.folder / "checkpoints/smoke-stage3")
    second = chain.save(2, warm_start=first.sha256)
    assert chain.started(start) == ["auto", "auto", "stage2"]
    shutil.rmtree(chain.folder / "checkpoints/smoke-stage3")
    chain.save(3, warm_start=second.sha256)
    assert chain.started(start) == ["auto", "auto", "auto"]


def test_stages_of_an_earlier_chain_are_left_alone(chain: Chain) -> None:
    chain.save(1)
    chain.save(2, warm_start="0" * 64)
    chain.save(3, warm_start="0" * 64)
    assert chain.started("last") == ["auto", "stage1", "stage2"]


def test_a_stage_with_broken_checkpoints_only_is_not_started_beside_them(chain: Chain) -> None:
    chain.save(1)
    manifest = chain.save(2)
    (chain.folder / "checkpoints/smoke-stage2" / manifest.path).write_text("broken")
    assert chain.started("last")[1] == "auto"  # which then says what is broken


def test_a_stage_that_ran_out_of_time_ends_the_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(loaded: LoadedConfig, _: RunOptions) -> RunRecord:
        return RunRecord(run_id="r", config_hash=loaded.hash, status="stopped", exit_code=0)

    monkeypatch.setattr(sequence, "run_training", run)
    assert len(run_sequence(load_config(None, "smoke", []), RunOptions())) == 1


def test_an_interrupted_stage_ends_the_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any) -> RunRecord:
        raise KeyboardInterrupt

    monkeypatch.setattr(sequence, "run_training", run)
    with pytest.raises(KeyboardInterrupt):
        run_sequence(load_config(None, "smoke", []), RunOptions())


def test_a_length_in_steps_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_steps=9"):
        stage_epochs(config("training.trainer.max_steps=9"))
