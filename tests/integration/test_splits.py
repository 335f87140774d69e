"""`evaluate --splits`: other families each time, from the same start, and no checkpoint."""

from pathlib import Path

import pytest
from tiny_bert import TINY
from typer.testing import CliRunner

from naics_job.cli.app import app
from naics_job.config.load import load_config
from naics_job.training.repeats import score_splits

pytestmark = pytest.mark.integration


def test_each_split_holds_out_other_families_and_starts_alike(
    wordy_folder: Path, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = (f"model.base_model_name={wordy_folder}", f"dirs.data_dir={shared_data}")
    short = ("training.trainer.max_epochs=1", "model.lora.start_phase=1")
    config = load_config(None, "smoke", [*own, *TINY, *short]).config
    cards = score_splits(config, 2)
    again = score_splits(config, 1)
    assert cards[0].metrics == again[0].metrics  # the first left nothing behind
    assert cards[0].baseline["heldout"] != cards[1].baseline["heldout"]
    assert cards[0].baseline["all"] == cards[1].baseline["all"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("other", [("--texts", "t.csv"), ("--ckpt-path", "a.ckpt")])
def test_it_reads_no_checkpoint(other: tuple[str, str]) -> None:
    ended = CliRunner().invoke(app, ["evaluate", "--splits", "2", *other])
    assert ended.exit_code == 2
    assert "trains anew" in ended.output
