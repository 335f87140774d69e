"""The Trainer takes as many devices and machines as a launcher has started, and no signals."""

import signal

import pytest
import torch
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

from naics_job.config.load import load_config
from naics_job.training.trainer import make_trainer

STARTED = {
    "TORCHELASTIC_RUN_ID": "r",
    "WORLD_SIZE": "4",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_WORLD_SIZE": "2",
    "RANK": "0",
    "GROUP_RANK": "0",
    "LOCAL_RANK": "0",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "1",
}


@pytest.mark.parametrize("devices", ["1", "auto", "4"])
def test_the_launcher_decides(monkeypatch: pytest.MonkeyPatch, devices: str) -> None:
    for name, value in STARTED.items():
        monkeypatch.setenv(name, value)
    config = load_config(None, "smoke", [f"training.trainer.devices={devices}"]).config
    trainer = make_trainer(config, logger=False)
    assert (trainer.num_devices, trainer.num_nodes, trainer.world_size) == (2, 2, 4)
    assert trainer.global_rank == 0


def test_alone_it_trains_alone() -> None:
    config = load_config(None, "smoke", ["training.trainer.accelerator=cpu"]).config
    assert make_trainer(config, logger=False).world_size == 1


def test_a_step_is_one_batch_whatever_accumulation_is_set() -> None:
    """Also where no run store is: `evaluate --splits` counted each batch as a part of a step."""
    settings = ["training.trainer.accelerator=cpu", "training.trainer.accumulate_grad_batches=3"]
    trainer = make_trainer(load_config(None, "smoke", settings).config, logger=False)
    assert trainer.accumulate_grad_batches == 1


def test_lightning_installs_no_handlers() -> None:
    before = signal.getsignal(signal.SIGTERM)
    config = load_config(None, "smoke", ["training.trainer.accelerator=cpu"]).config
    connector = make_trainer(config, logger=False)._signal_connector
    connector.register_signal_handlers()
    assert signal.getsignal(signal.SIGTERM) == before
    connector.teardown()
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_step_asks_no_other_process_whether_a_signal_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert hasattr(_TrainingEpochLoop, "_broadcast_sigterm_tensor")  # else it has another name now
    monkeypatch.setattr(torch.distributed, "broadcast", lambda *_, **__: pytest.fail("asked"))
    config = load_config(None, "smoke", ["training.trainer.accelerator=cpu"]).config
    make_trainer(config, logger=False).fit_loop.epoch_loop._broadcast_sigterm_tensor()
