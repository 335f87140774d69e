"""A step is the same whatever its split: batch sizes and processes change no loss or gradient.

One real training step of phase 3, with mined negatives, clusters, dropout and the adapter training.
"""

import os
import socket
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tiny_bert import TINY
from torch import Tensor

from naics_job.config.load import load_config
from naics_job.config.schema import Config
from naics_job.training.build import build_inputs, build_job
from naics_job.training.callbacks.curriculum import CurriculumCallback
from naics_job.training.trainer import make_trainer

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),  # Lightning 2.6 on torch 2.13
]
GLOBAL_BATCH = 8
SPLITS = ((1, 8), (1, 4), (1, 2), (1, 1), (2, 4), (2, 1), (4, 2))  # processes, batch size of each
PHASE_3 = (
    "curriculum.phase1_end=1e-9",
    "curriculum.phase2_end=1e-9",
    "model.lora.start_phase=1",
    "loss.code_contrastive_weight=0.1",  # or no code would be mined
)
TOLERANCE = 1e-5  # of the largest value


class Note(pl.Callback):
    """Keeps the gradients of a step, which are those of all processes, and its loss."""

    def __init__(self) -> None:
        self.found: dict[str, Tensor] = {}

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any
    ) -> None:
        named = pl_module.named_parameters()
        self.found |= {name: p.grad.clone() for name, p in named if p.grad is not None}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        self.found["loss"] = outputs["loss"].detach().clone()


def settings(encoder: Path, data: Path, batch_size: int) -> Config:
    batches = (
        f"data_loader.global_batch_size={GLOBAL_BATCH}",
        f"data_loader.batch_size={batch_size}",
    )
    folders = (f"model.base_model_name={encoder}", f"dirs.data_dir={data}")
    return load_config(None, "smoke", [*TINY, *PHASE_3, *batches, *folders]).config


def one_step(config: Config) -> tuple[int, dict[str, Tensor]]:
    """In how many pieces the texts of the step are encoded, and what `Note` finds."""
    job = build_job(config, build_inputs(config))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # at its start the adapter's second factor is 0, and so is a gradient
        for _, parameter in job.module.encoder.lora_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    note = Note()
    parts = {"max_epochs": -1, "max_steps": 1, "callbacks": [CurriculumCallback(), note]}
    trainer = make_trainer(config, logger=False, **parts)
    trainer.fit(job.module, datamodule=job.datamodule)
    return job.module.step_encoder.parts, note.found


def worker(rank: int, world: int, port: int, where: tuple[Path, Path, Path]) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0",
        "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    dist.init_process_group("gloo")
    encoder, data, folder = where
    for processes, batch_size in SPLITS:
        if processes == world:
            found = one_step(settings(encoder, data, batch_size))
            torch.save(found, folder / f"{world}x{batch_size}-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def steps(
    wordy_folder: Path, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[int, int, int], tuple[int, dict[str, Tensor]]]:
    """By processes, batch size and rank: pieces, loss and gradients."""
    folder = tmp_path_factory.mktemp("steps")
    found = {
        (1, size, 0): one_step(settings(wordy_folder, shared_data, size))
        for processes, size in SPLITS
        if processes == 1
    }
    for world in (2, 4):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        mp.spawn(worker, (world, port, (wordy_folder, shared_data, folder)), nprocs=world)
    for processes, size in SPLITS[4:]:
        for rank in range(processes):
            found[processes, size, rank] = torch.load(folder / f"{processes}x{size}-{rank}.pt")
    return found


def test_the_step_is_a_whole_one(steps: Any) -> None:
    """Every part of the network has a gradient, so that a comparison says something."""
    _, whole = steps[1, GLOBAL_BATCH, 0]
    assert whole["loss"] > 0
    adapters = [name for name in whole if ".lora_" in name]
    assert len(adapters) == 8  # layers, query and value, A and B
    parts = ("embedder.maps", "embedder.experts.", "embedder.log_tree", *adapters)
    for part in parts:
        assert any(bool(grad.any()) for name, grad in whole.items() if name.startswith(part)), part


@pytest.mark.parametrize(("processes", "size"), SPLITS)
def test_every_split_has_the_same_loss_and_gradients(steps: Any, processes: int, size: int) -> None:
    _, whole = steps[1, GLOBAL_BATCH, 0]
    for rank in range(processes):
        pieces, found = steps[processes, size, rank]
        assert pieces == GLOBAL_BATCH // (processes * size)
        assert found.keys() == whole.keys()
        for name, value in whole.items():
            largest = float((found[name] - value).abs().max())
            assert largest <= TOLERANCE * float(value.abs().max()), name


def test_processes_agree_to_the_last_bit(steps: Any) -> None:
    for processes, size in SPLITS[4:]:
        _, first = steps[processes, size, 0]
        for rank in range(1, processes):
            _, found = steps[processes, size, rank]
            assert all(torch.equal(found[name], grad) for name, grad in first.items())
