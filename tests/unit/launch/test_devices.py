"""GPUs are counted without torch."""

from pathlib import Path

import pytest

from naics_job.config.load import load_config
from naics_job.launch.devices import num_gpus
from naics_job.launch.processes import wanted_processes


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """A PATH whose nvidia-smi lists four GPUs, one of them with an instance."""
    script = tmp_path / "nvidia-smi"
    lines = [f"GPU {n}: A100 (UUID: GPU-{n})" for n in range(4)]
    lines.insert(1, "  MIG 1g.10gb Device 0: (UUID: MIG-1)")
    script.write_text("#!/bin/sh\ncat <<E\n" + "\n".join(lines) + "\nE\n")
    script.chmod(0o755)
    return {"PATH": f"{tmp_path}:/bin:/usr/bin"}


@pytest.mark.parametrize(
    ("visible", "count"),
    [
        (None, 4),
        ("0,2", 2),
        ("", 0),
        ("-1", 0),
        ("0,-1,2", 1),  # CUDA reads up to the first that is none
        ("0,7", 1),
        ("GPU-1,GPU-3", 2),
        ("NoDevFiles", 0),
    ],
)
def test_visible_devices(machine: dict[str, str], visible: str | None, count: int) -> None:
    chosen = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert num_gpus({**machine, **chosen}) == count


def test_without_the_command_the_driver_lists_them(tmp_path: Path) -> None:
    nowhere = {"PATH": str(tmp_path / "bin")}
    assert num_gpus(nowhere, tmp_path / "gpus") == 0
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / "gpus" / name).mkdir(parents=True)
    assert num_gpus(nowhere, tmp_path / "gpus") == 2
    assert num_gpus({**nowhere, "CUDA_VISIBLE_DEVICES": "1"}, tmp_path / "gpus") == 1


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        (("training.trainer.devices=auto", "training.trainer.accelerator=cpu"), 1),
        (("training.trainer.devices=3",), 3),
        (("training.trainer.devices='0,2'",), 2),
        (("training.trainer.devices=[1]",), 1),
    ],
)
def test_what_the_settings_ask_for(settings: tuple[str, ...], count: int) -> None:
    assert wanted_processes(load_config(None, "smoke", settings).config) == count
