"""`tools gpu`: which batch size is suggested, and how."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from naics_job.config.load import load_config
from naics_job.config.schema import Config
from naics_job.data.prepare import load_dataset, prepare_all
from naics_job.errors import ConfigError
from naics_job.model.weights import resolve_base
from naics_job.training import gpu
from naics_job.training.gpu import GIB, USABLE, advise, num_processes, suggestion, wanted_loads
from naics_job.training.memory_probe import Probed, Stepper, probe
from naics_job.training.step_load import StepLoad, StepLoads, loads_from_data, loads_from_settings
from naics_job.training.unencoded import unencoded_inputs
from tests.support.tiny_bert import TINY, make_wordy

LOADS = [StepLoad(2**n, 64, 256, 60, 1000 * 2**n, 4) for n in range(6)]


@pytest.fixture
def config(tiny_folder: Path, tmp_path: Path) -> Config:
    base = make_wordy(tiny_folder, tmp_path / "base")
    places = [f"dirs.data_dir={tmp_path}/data", f"model.base_model_name={base}"]
    return load_config(None, "smoke", [*places, *TINY]).config


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def table(text: str) -> dict[int, str]:
    """Verdict by batch size."""
    rows = [line.split() for line in text.splitlines()]
    numbers = [row for row in rows if len(row) > 6 and row[0].replace(",", "").isdigit()]
    return {int(row[0].replace(",", "")): " ".join(row[6:]) for row in numbers}


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
    assert advice.settings == {gpu.BATCH_SIZE: 64, gpu.ACCUMULATE: 1}
    assert "encoded twice" not in advice.text


@pytest.mark.usefixtures("no_cuda")
def test_the_suggestion_respects_the_memory(config: Config) -> None:
    """Memory that lies between the estimates of two batch sizes: the smaller one is suggested."""
    prepare_all(config)
    base = resolve_base(config.model, Path())
    loads = gpu._loads(config, base)
    assert loads.num_codes == 60
    model = gpu.measure_model(config, base, loads, half=False, processes=1)
    low, high = (model.estimate(loads.of(size, size)) for size in (4, 8))
    assert low < high
    advice = advise(config, False, (low + high) / 2 / USABLE / GIB, None)
    assert "steps drawn from the prepared data (bundled, 60 codes)" in advice.text
    assert table(advice.text)[4] == "fits"
    assert table(advice.text)[8] == "too much"
    assert (advice.batch_size, advice.accumulate_grad_batches) == (4, 1)


@pytest.mark.usefixtures("no_cuda")
def test_less_memory_means_smaller_micro_batches_of_the_same_step(config: Config) -> None:
    prepare_all(config)
    base = resolve_base(config.model, Path())
    loads = gpu._loads(config, base)
    model = gpu.measure_model(config, base, loads, half=False, processes=1)
    low, high = (model.estimate(loads.of(size, 32)) for size in (8, 16))
    assert low < high
    advice = advise(config, False, (low + high) / 2 / USABLE / GIB, 32)
    assert (advice.batch_size, advice.accumulate_grad_batches) == (8, 4)
    assert "8 (batch size) x 4 (micro-batches) x 1 (processes) = 32" in advice.text
    assert "each micro-batch is encoded twice" in advice.text
    same_step = f"with {gpu.GLOBAL_BATCH_SIZE}=32 a smaller {gpu.BATCH_SIZE} is the same step"
    assert same_step in advice.text


@pytest.mark.usefixtures("no_cuda")
def test_nothing_fits(config: Config) -> None:
    with pytest.raises(ConfigError, match="not even a step of one anchor") as caught:
        advise(config, False, 0.1, None)
    assert "data_loader.queries.per_anchor" in caught.value.hint


@pytest.mark.parametrize(
    ("target", "processes", "expected"),
    [
        (None, 1, [(1, 1), (2, 2), (4, 4), (8, 8), (16, 16), (32, 32)]),
        (None, 2, [(1, 2), (2, 4), (4, 8), (8, 16), (16, 32), (32, 64)]),
        (20, 2, [(1, 20), (2, 20), (4, 20), (8, 20), (10, 20)]),
        (8, 1, [(1, 8), (2, 8), (4, 8), (8, 8)]),
        (96, 1, [(1, 96), (2, 96), (4, 96), (8, 96), (16, 96), (32, 96), (96, 96)]),
        (10**5, 1, [(1, 10**5), (2, 10**5), (4, 10**5), (8, 10**5), (16, 10**5), (32, 10**5)]),
    ],
)
def test_sizes_that_are_looked_at(
    target: int | None, processes: int, expected: list[tuple[int, int]]
) -> None:
    """Of 60 anchors: powers of two, or up to what one process has of the target."""
    loads = loads_from_settings(load_config(overrides=["data.max_codes=60"]).config)
    found = list(wanted_loads(loads, target, processes))
    assert [(load.batch_size, load.anchors) for load in found] == expected


def test_measured_on_a_device(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe is replaced: 1 GiB and 100 MB per anchor on a card with 6 GiB free."""

    def probed(*parts: Any) -> list[Probed]:
        loads: Iterable[StepLoad] = parts[2]

        def run(load: StepLoad) -> None:
            sizes.append(load.batch_size)

        return probe(loads, run, lambda: GIB + 10**8 * sizes[-1] if sizes else 0, parts[3])

    sizes: list[int] = []
    monkeypatch.setattr(gpu, "probe_cuda", probed)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (6 * GIB, 8 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Test GPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    advice = advise(config, True, None, 128)
    assert "measured on Test GPU with 6.0 GiB" in advice.text
    assert sizes == [1, 2, 4, 8, 16, 32]  # 128 at once would take 13.8 GiB
    assert table(advice.text)[128] == "too much"
    assert (advice.batch_size, advice.accumulate_grad_batches) == (32, 4)


def test_the_probe_stops_before_it_runs_out() -> None:
    """Each batch size doubles the bytes; 8 is within the limit, 16 foreseeably is not."""
    ran: list[int] = []

    def run(load: StepLoad) -> None:
        ran.append(load.batch_size)

    rows = probe(LOADS, run, lambda: 100 * ran[-1] if ran else 0, limit_bytes=900)
    assert ran == [1, 2, 4, 8]
    assert [row.peak_bytes for row in rows] == [100, 200, 400, 800]


def test_the_probe_survives_an_exhausted_device() -> None:
    ran: list[int] = []

    def run(load: StepLoad) -> None:
        if load.batch_size > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        ran.append(load.batch_size)

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
    """Adapter, maps and experts get gradients, and texts and codes are those of the load."""
    prepare_all(config)
    inputs = unencoded_inputs(config, load_dataset(config), resolve_base(config.model, Path()))
    load = loads_from_data(config, inputs).of(4, 4)
    stepper = Stepper(config, inputs, torch.device("cpu"))
    stepper.loss(load, 0).backward()
    for name in ("encoder", "embedder"):
        part = getattr(stepper.module, name)
        found = [p.grad for p in part.parameters() if p.requires_grad and p.grad is not None]
        assert any(bool(grad.any()) for grad in found)
    before = [p.detach().clone() for _, p in stepper.module.encoder.lora_parameters()]
    stepper.run(load)
    after = [p for _, p in stepper.module.encoder.lora_parameters()]
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    seen = stepper.module.step_encoder
    assert 0 < seen.step_tokens <= 16 * 48
    assert 4 * 2 <= seen.step_codes <= load.codes + 4 * 4  # of another of the drawn steps


def test_a_probed_step_is_the_same_in_any_micro_batches(config: Config) -> None:
    prepare_all(config)
    inputs = unencoded_inputs(config, load_dataset(config), resolve_base(config.model, Path()))
    loads: StepLoads = loads_from_data(config, inputs)
    gradients = []
    for size in (8, 2):
        stepper = Stepper(config, inputs, torch.device("cpu"))
        stepper.loss(loads.of(size, 8), 0).backward()
        assert stepper.module.step_encoder.parts == 8 // size
        adapter = stepper.module.encoder.lora_parameters()
        gradients.append(torch.cat([p.grad.flatten() for _, p in adapter if p.grad is not None]))
        stepper.module.zero_grad()
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-6)
