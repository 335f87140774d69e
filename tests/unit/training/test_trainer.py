"""Lightning's Trainer knows the processes that a launcher started, and leaves signals alone."""

import signal

import pytest

from naics_job.config.load import load_config
from naics_job.errors import ConfigError
from naics_job.training.trainer import make_trainer

STARTED = {
    "WORLD_SIZE": "4",
    "LOCAL_WORLD_SIZE": "2",
    "RANK": "0",
    "LOCAL_RANK": "0",
    "GROUP_RANK": "0",
    "TORCHELASTIC_RUN_ID": "x",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "1",
}


def trainer_of(*overrides: str) -> object:
    settings = ["training.trainer.accelerator=cpu", *(f"training.trainer.{o}" for o in overrides)]
    return make_trainer(load_config(None, "smoke", settings).config, logger=False)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in STARTED.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize(
    "asked", [(), ("devices=2",), ("devices=auto",), ("devices=2", "num_nodes=2"), ("devices=-1",)]
)
def test_the_processes_of_a_launcher_train_together(asked: tuple[str, ...]) -> None:
    trainer = trainer_of(*asked)
    assert (trainer.world_size, trainer.num_nodes) == (4, 2)  # type: ignore[attr-defined]


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize("asked", ["devices=4", "num_nodes=4", "devices=[0,1,2]"])
def test_another_number_than_was_started_is_refused(asked: str) -> None:
    with pytest.raises(ConfigError, match="but 2 were started") as error:
        trainer_of(asked)
    assert asked.partition("=")[0] in error.value.hint


def test_alone_it_trains_alone() -> None:
    assert trainer_of().world_size == 1  # type: ignore[attr-defined]


def test_lightning_installs_no_handlers() -> None:
    before = signal.getsignal(signal.SIGTERM)
    connector = trainer_of()._signal_connector  # type: ignore[attr-defined]
    connector.register_signal_handlers()
    assert signal.getsignal(signal.SIGTERM) == before
    connector.teardown()
    assert signal.getsignal(signal.SIGTERM) == before
