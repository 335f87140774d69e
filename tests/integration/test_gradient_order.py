"""Three processes add up the same gradients in their first step and in later ones, bit for bit."""

import os
import socket
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor, nn

from naics_job.config.load import load_config
from naics_job.training.trainer import make_trainer

pytestmark = pytest.mark.integration
WORLD, STEPS = 3, 3


class Layers(pl.LightningModule):
    """Layers of several shapes, whose gradients become ready in another order than they are named.

    With a learning rate of 0 every step has the same gradients.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(33, 33) for _ in range(6))
        self.seen: list[list[Tensor]] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        for layer in self.layers:
            batch = torch.tanh(layer(batch))
        return batch.square().sum()

    def on_after_backward(self) -> None:
        self.seen.append([p.grad.clone() for p in self.parameters() if p.grad is not None])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def worker(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0",
        "WORLD_SIZE": str(WORLD), "LOCAL_WORLD_SIZE": str(WORLD), "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    config = load_config(overrides=["training.trainer.accelerator=cpu"]).config
    module = Layers()
    data = torch.randn(STEPS, 7, 33, generator=torch.Generator().manual_seed(rank))
    data[:] = data[0]
    trainer = make_trainer(config, logger=False, max_steps=STEPS)
    trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=None))
    torch.save(module.seen, Path(folder) / f"{rank}.pt")


def test_the_first_step_adds_up_as_later_ones_do(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(worker, (port, str(tmp_path)), nprocs=WORLD)
    first, *later = torch.load(tmp_path / "0.pt")
    assert len(later) == STEPS - 1
    assert all(torch.equal(a, b) for step in later for a, b in zip(first, step, strict=True))
    assert any(bool(gradient.any()) for gradient in first)
