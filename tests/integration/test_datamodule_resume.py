"""Lightning runs that are interrupted after every possible step, and loader workers."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from naics_job.config.load import load_config
from naics_job.data.datamodule import NaicsDataModule
from naics_job.data.prepare import NaicsData
from naics_job.data.sampler import AnchorBatch
from naics_job.data.triplets import positive_table
from naics_job.taxonomy.codes import bundled_titles
from naics_job.taxonomy.tree import Taxonomy

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),  # Lightning 2.6 on torch 2.13
]
EPOCHS, BATCH = 3, 8
Seen = list[tuple[int, int, int, int, tuple[int, ...], tuple[int, ...]]]


def datamodule(workers: int) -> NaicsDataModule:
    rows = [row for row in bundled_titles() if row[0].startswith("21")]
    taxonomy = Taxonomy.from_codes(*zip(*rows, strict=True))
    none = np.zeros(len(taxonomy) + 1, dtype=np.int64), np.empty(0, dtype=np.int64)
    data = NaicsData(taxonomy, {}, none, positive_table(taxonomy), "bundled", "0" * 64)
    config = load_config(None, "smoke", [f"data_loader.num_workers={workers}"]).config
    return NaicsDataModule(data, config, global_batch_size=BATCH)


class Probe(pl.LightningModule):
    """Notes what every step is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: Seen = []

    def training_step(self, batch: AnchorBatch, batch_idx: int) -> Tensor:
        key = (self.trainer.current_epoch, batch_idx, batch.epoch, batch.index)
        self.seen.append((*key, tuple(batch.anchors.tolist()), tuple(batch.positives.tolist())))
        return self.weight**2 + self.weight * float(batch.anchors.sum())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-4)


class SaveThenStop(pl.Callback):
    """Saves after optimizer step `at` and stops there, as a preempted run does."""

    def __init__(self, folder: Path, at: int | None) -> None:
        self.folder, self.at = folder, at

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any,
        batch_idx: int,
    ) -> None:  # fmt: skip
        trainer.datamodule.record(batch)  # type: ignore[attr-defined]
        if trainer.global_step == self.at:
            trainer.save_checkpoint(self.folder / "at.ckpt")
            raise KeyboardInterrupt


def fit(folder: Path, stop_at: int | None, resume: bool, workers: int = 0) -> Probe:
    probe = Probe()
    trainer = pl.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[SaveThenStop(folder, stop_at)],
    )
    path = folder / "at.ckpt" if resume else None
    loaded = datamodule(workers)
    try:
        trainer.fit(probe, datamodule=loaded, ckpt_path=path, weights_only=True)
    except (KeyboardInterrupt, SystemExit):
        assert stop_at is not None
    return probe


def test_a_run_stopped_after_any_step_continues_with_the_next_batch(tmp_path: Path) -> None:
    straight = fit(tmp_path, None, resume=False)
    per_epoch = datamodule(0).steps_per_epoch
    assert per_epoch >= 3
    assert len(straight.seen) == EPOCHS * per_epoch
    assert all(entry[0] == entry[2] for entry in straight.seen)  # Lightning's epoch is ours
    for step in range(1, EPOCHS * per_epoch):
        before = fit(tmp_path, step, resume=False)
        after = fit(tmp_path, None, resume=True)
        assert [*before.seen, *after.seen] == straight.seen, f"stopped after step {step}"
        assert torch.equal(after.weight, straight.weight)


def test_loader_workers_change_nothing(tmp_path: Path) -> None:
    alone = fit(tmp_path, None, resume=False)
    helped = fit(tmp_path, None, resume=False, workers=2)
    assert helped.seen == alone.seen
    per_epoch = datamodule(0).steps_per_epoch
    before = fit(tmp_path, per_epoch + 1, resume=False, workers=2)
    after = fit(tmp_path, None, resume=True, workers=2)
    assert [*before.seen, *after.seen] == alone.seen
