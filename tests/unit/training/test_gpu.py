"""`tools gpu`: which batch size is suggested, and how."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from naics_job.config.load import load_config
from naics_job.config.schema import Config
from naics_job.data.prepare import load_dataset, prepare_all
from naics_job.data.tokens import TokenStore
from naics_job.errors import ConfigError
from naics_job.model.weights import resolve_base
from naics_job.training import gpu
from naics_job.training.gpu import GIB, USABLE, advise, num_processes, suggestion
from naics_job.training.memory_probe import Probed, Stepper, probe
from naics_job.training.step_load import StepLoad, loads_from_data

LOADS = [StepLoad(2**n, 10 * 2**n, 1000 * 2**n, 4) for n in range(6)]


@pytest.fixture
def config(tiny_folder: Path, tmp_path: Path) -> Config:
    overrides = [f"dirs.data_dir={tmp_path}/data", f"model.base_model_name={tiny_folder}"]
    return load_config(None, "smoke", [*overrides, "model.embedding_dim=32"]).config


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def table(text: str) -> dict[int, str]:
    """Verdict by batch size."""
    rows = [line.split() for line in text.splitlines()]
    numbers = [row for row in rows if len(row) > 4 and row[0].replace(",", "").isdigit()]
    return {int(row[0].replace(",", "")): " ".join(row[4:]) for row in numbers}


@pytest.mark.usefixtures("no_cuda")
@pytest.mark.parametrize("auto", [True, False])
def test_without_a_gpu_and_a_size_nothing_is_pretended(config: Config, auto: bool) -> None:
    with pytest.raises(ConfigError, match="no CUDA device") as caught:
        advise(config, auto, None, None)
    assert "--gpu-memory" in caught.value.hint


@pytest.mark.usefixtures("no_cuda")
def test_estimate_without_data(config: Config) -> None:
    advice = advise(config, True, 16.0, 64)
    assert "not measured: there is no CUDA device" in advice.text
    assert "upper limits from the settings" in advice.text
    assert set(table(advice.text).values()) == {"fits"}
    assert advice.batch_size * advice.accumulate_grad_batches == 64
    assert advice.settings == {gpu.BATCH_SIZE: 32, gpu.ACCUMULATE: 2}


@pytest.mark.usefixtures("no_cuda")
def test_the_suggestion_respects_the_memory(config: Config) -> None:
    """Memory that lies between the estimates of two batch sizes: the smaller one is suggested."""
    prepare_all(config)
    base = resolve_base(config.model, Path())
    loads, num_codes = gpu._loads(config, base)
    assert num_codes == 60
    model = gpu.measure_model(config, base, num_codes, half=False, processes=1)
    low, high = (model.estimate(loads.of(size)) for size in (4, 8))
    assert low < high
    advice = advise(config, False, (low + high) / 2 / USABLE / GIB, None)
    assert "batches drawn from the prepared data (bundled, 60 codes)" in advice.text
    assert table(advice.text)[4] == "fits"
    assert table(advice.text)[8] == "too much"
    assert (advice.batch_size, advice.accumulate_grad_batches) == (4, 1)


@pytest.mark.usefixtures("no_cuda")
def test_nothing_fits(config: Config) -> None:
    with pytest.raises(ConfigError, match="not even a step of one anchor"):
        advise(config, False, 0.1, None)


def test_measured_on_a_device(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe is replaced: 1 GiB and 100 MB per anchor on a card with 6 GiB free."""

    def probed(*parts: Any) -> list[Probed]:
        loads: Iterable[StepLoad] = parts[4]
        return probe(loads, sizes.append, lambda: GIB + 10**8 * sizes[-1] if sizes else 0, parts[5])

    sizes: list[int] = []
    monkeypatch.setattr(gpu, "probe_cuda", probed)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (6 * GIB, 8 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Test GPU")
    advice = advise(config, True, None, 128)
    assert "measured on Test GPU with 6.0 GiB" in advice.text
    assert sizes == [1, 2, 4, 8, 16, 32]  # all powers of two up to the anchors of 60 codes
    assert (advice.batch_size, advice.accumulate_grad_batches) == (32, 4)


def test_the_probe_stops_before_it_runs_out() -> None:
    """Each batch size doubles the bytes; 8 is within the limit, 16 foreseeably is not."""
    ran: list[int] = []
    rows = probe(LOADS, ran.append, lambda: 100 * ran[-1] if ran else 0, limit_bytes=900)
    assert ran == [1, 2, 4, 8]
    assert [row.peak_bytes for row in rows] == [100, 200, 400, 800]


def test_the_probe_survives_an_exhausted_device() -> None:
    ran: list[int] = []

    def run(size: int) -> None:
        if size > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        ran.append(size)

    rows = probe(LOADS, run, lambda: 1, limit_bytes=900)
    assert [(row.load.batch_size, row.peak_bytes) for row in rows] == [(1, 1), (2, 1), (4, None)]
    assert gpu.largest_fitting(rows, 900) == 2


@pytest.mark.parametrize(
    ("largest", "target", "processes", "expected"),
    [
        (64, None, 1, (64, 1)),
        (64, 32, 1, (32, 1)),
        (96, 256, 1, (64, 4)),  # 3 x 86 would be 258
        (64, 97, 1, (49, 2)),  # a prime: the next number above it
        (64, 512, 4, (64, 2)),
        (1, 7, 1, (1, 7)),
    ],
)
def test_batch_size_and_accumulation(
    largest: int, target: int | None, processes: int, expected: tuple[int, int]
) -> None:
    assert suggestion(largest, target, processes) == expected


def test_a_set_global_batch_size_is_the_target_and_is_kept(config: Config) -> None:
    fixed = load_config(
        overrides=[
            f"dirs.data_dir={config.dirs.data_dir}",
            f"model.base_model_name={config.model.base_model_name}",
            "data.max_codes=60",
            "data_loader.num_negatives=8",
            *[
                f"data_loader.tokenization.max_tokens.{n}=24"
                for n in ("title", "description", "examples", "excluded")
            ],
            "data_loader.global_batch_size=96",
        ]
    ).config
    advice = advise(fixed, False, 16.0, None)
    assert advice.settings[gpu.GLOBAL_BATCH_SIZE] == 96
    assert advice.batch_size * advice.accumulate_grad_batches == 96


@pytest.mark.parametrize(
    ("devices", "nodes", "expected"), [("2", 1, 2), ("[0,1,2]", 2, 6), ("'0,1'", 1, 2)]
)
def test_processes(devices: str, nodes: int, expected: int) -> None:
    trainer = [f"training.trainer.devices={devices}", f"training.trainer.num_nodes={nodes}"]
    assert num_processes(load_config(overrides=trainer).config) == expected


def test_a_probed_step_is_a_training_step(config: Config) -> None:
    """Adapters, maps and experts get gradients, and the codes are those of the load."""
    prepare_all(config)
    data, base = load_dataset(config), resolve_base(config.model, Path())
    tokens = TokenStore.open_or_build(data, base.folder, config.data_loader)
    stepper = Stepper(config, data, base, tokens, torch.device("cpu"))
    stepper.loss(4, 0).backward()
    for name in ("encoder", "embedder"):
        part = getattr(stepper.module, name)
        found = [p.grad for p in part.parameters() if p.requires_grad and p.grad is not None]
        assert any(bool(grad.any()) for grad in found)
    before = [p.detach().clone() for _, p in stepper.module.encoder.lora_parameters()]
    stepper.run(4)
    after = [p for _, p in stepper.module.encoder.lora_parameters()]
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    load = loads_from_data(config, data, tokens).of(4)
    assert 4 * 2 <= load.codes <= 4 * 10
    assert load.tokens >= load.codes * 3
