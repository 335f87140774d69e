"""`train-seq --ckpt-path last` continues the chain in the stage that was stopped."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from tiny_bert import TINY

from naics_job.config.load import load_config
from naics_job.errors import NaicsJobError
from naics_job.observability.logs import unbind_all
from naics_job.training.callbacks.throughput import ThroughputCallback
from naics_job.training.run import RunOptions
from naics_job.training.sequence import run_sequence

pytestmark = pytest.mark.integration


def test_a_chain_that_was_stopped_in_its_second_stage(
    wordy_folder: Path, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dirs = [f"dirs.{name}_dir={tmp_path / name}s" for name in ("log", "output", "checkpoint")]
    model = [f"model.base_model_name={wordy_folder}", *TINY]
    rest = [f"dirs.data_dir={shared_data}"]
    loaded = load_config(None, "smoke", [*dirs, *model, *rest])
    original = ThroughputCallback.on_train_batch_end
    phases: list[int] = []

    def note(self: ThroughputCallback, trainer: Any, module: Any, *args: Any) -> None:
        original(self, trainer, module, *args)
        phases.append(int(module.phase_state().phase))
        if phases == [1] * 7 + [2] * 3:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(ThroughputCallback, "on_train_batch_end", note)
    with pytest.raises(NaicsJobError, match="SIGTERM after step 3"):
        run_sequence(loaded, RunOptions())
    unbind_all()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*stage1/**/*") if path.is_file()}
    assert before
    run_sequence(loaded, RunOptions(ckpt_path="last"))
    unbind_all()
    assert phases == [1] * 7 + [2] * 7 + [3] * 7
    assert {path: path.read_bytes() for path in before} == before
    records = [
        json.loads((tmp_path / f"outputs/smoke-stage{stage}/run_record.json").read_text())
        for stage in (1, 2, 3)
    ]
    assert [record["restarts"] for record in records] == [0, 1, 0]
    assert [record["steps"] for record in records] == [7, 7, 7]
    assert records[2]["warm_start"] == records[1]["checkpoint"]
    run_sequence(loaded, RunOptions(ckpt_path="last"))  # every stage is finished
    unbind_all()
    assert len(phases) == 21
