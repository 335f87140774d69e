"""The module of a run: what training changes, and what its sources may show."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from naics_job.training.asked import query_draws
from naics_job.training.build import Job, build_sources
from naics_job.training.module import NaicsModule

MakeJob = Callable[..., Job]


def logged_step(
    module: NaicsModule, job: Job, adapters: bool
) -> tuple[torch.Tensor, dict[str, Any]]:
    """One training step without a trainer."""
    shown: dict[str, Any] = {}
    module.log_dict = lambda values, batch_size: shown.update(values)  # type: ignore[method-assign]
    module.phase_state = lambda: module.curriculum.at(0)  # type: ignore[method-assign]
    module.lora_active = lambda step: adapters  # type: ignore[method-assign]
    module._trainer = SimpleNamespace(global_step=0, log_every_n_steps=0)
    everyone = module.embed_all()
    module.bank.update(torch.arange(len(module.taxonomy)), everyone.points, everyone.gates)
    module.train()
    return module.training_step(job.datamodule.dataset[0, 0], 0), shown


def test_a_step_moves_what_is_saved_as_trained(make_job: MakeJob) -> None:
    job = make_job()
    module = job.module
    before = module.trained_state()
    loss, shown = logged_step(module, job, adapters=True)
    loss.backward()
    trained = [p for p in module.parameters() if p.grad is not None]
    torch.optim.SGD(trained, lr=0.1).step()
    after = module.trained_state()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert "embedder.maps" in changed
    assert "embedder.experts.bias" in changed
    assert any("lora_B" in name for name in changed)
    assert not any(name.startswith(("bank", "embedder.lexical")) for name in after)
    module.load_state_dict(before, strict=False)
    for name, value in module.trained_state().items():
        assert torch.equal(value, before[name]), name
    assert {"train/total", "train/contrastive", "train/distillation", "train/margin"} <= set(shown)


def test_distillation_has_nothing_to_say_before_the_adapter_trains(make_job: MakeJob) -> None:
    """Of bare single texts; the frozen encoder's view of others is put together of their parts."""
    bare = ("data_loader.queries.mixture=0", "data_loader.queries.boilerplate=0")
    job = make_job(*bare)
    _, shown = logged_step(job.module, job, adapters=True)
    assert shown["train/distillation"].abs() < 1e-5
    moved = make_job(*bare, awake=True)
    _, shown = logged_step(moved.module, moved, adapters=True)
    assert shown["train/distillation"] > 1e-3


def test_resting_adapters_get_no_gradient(make_job: MakeJob) -> None:
    job = make_job()
    loss, _ = logged_step(job.module, job, adapters=False)
    loss.backward()
    assert all(p.grad is None for _, p in job.module.encoder.lora_parameters())
    assert job.module.embedder.maps.grad is not None


def test_codes_of_the_step_are_remembered(make_job: MakeJob) -> None:
    job = make_job()
    before = job.module.embed_all().points
    logged_step(job.module, job, adapters=False)
    moved = (job.module.bank.points - before).abs().amax(dim=1) > 1e-6
    moved = moved & job.module.bank.filled
    assert moved.any()  # dropout
    assert not moved.all()
    assert not job.module.bank.filled[torch.from_numpy(job.datamodule.splits.held())].any()


def test_no_term_that_reads_texts_asks_none(make_job: MakeJob) -> None:
    silent = make_job("loss.contrastive_weight=0", "loss.distillation_weight=0").module
    asking = make_job("loss.contrastive_weight=0").module
    batch = make_job().datamodule.dataset[0, 0]
    assert query_draws(silent.config, batch).num_rows == 0
    per_anchor = asking.config.data_loader.queries.per_anchor
    assert query_draws(asking.config, batch).num_rows == per_anchor * len(batch.anchors)


def test_sources_show_nothing_of_held_out_codes(make_job: MakeJob) -> None:
    job = make_job()
    held = job.datamodule.splits.held()
    sources = build_sources(job.module.config, job.inputs, job.datamodule.splits)
    assert not sources.shown.title.numpy()[held].any()
    assert not sources.shown.description.numpy()[held].any()
    items = np.diff(job.inputs.tokens.segments["examples"].segment_start)
    assert not sources.shown.item.numpy()[np.repeat(held, items)].any()
    positions = np.flatnonzero(held)
    assert sources.words.counts(positions).nnz == 0
    assert sources.all_words.counts(positions).nnz > 0


def test_memory_of_a_step_is_counted(make_job: MakeJob) -> None:
    job = make_job()
    _, shown = logged_step(job.module, job, adapters=False)
    memory = {k.rpartition("/")[2]: v for k, v in shown.items() if "global_batch" in k}
    assert set(memory) == {"num_codes", "num_pairs", "codes_bytes", "pairs_bytes"}
    assert memory["num_pairs"] == memory["num_codes"] ** 2
