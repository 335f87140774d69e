"""Two gloo processes under DistributedDataParallel: the adapter trains, alike on both.

One encodes its texts at once, the other in two pieces.
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import BertConfig, BertModel

from naics_job.config.load import load_config
from naics_job.data.tokens import Ragged
from naics_job.model.encoder import TextEncoder
from naics_job.model.weights import BaseWeights

pytestmark = pytest.mark.integration
NUM_TENSORS = 2 * 2 * 2  # layers, query and value, A and B


class Step(nn.Module):
    """A loss of one process's texts; `cached` is a step of the frozen phase."""

    def __init__(self, encoder: TextEncoder, parts: int = 1) -> None:
        super().__init__()
        self.encoder, self.parts = encoder, parts

    def forward(self, tokens: Ragged, cached: bool) -> Tensor:
        if cached:
            return self.encoder.adapter_zero()
        features = self.encoder(tokens, parts=self.parts)
        weight = torch.randn(features.shape, generator=torch.Generator().manual_seed(0))
        return (features * weight).sum()


def build(folder: str, checkpointing: bool) -> TextEncoder:
    model = load_config().config.model
    lora = replace(model.lora, r=4, alpha=8, dropout=0.0, target_modules=("query", "value"))
    config = replace(model, gradient_checkpointing=checkpointing, lora=lora)
    encoder = TextEncoder(BaseWeights(Path(folder), "folder", "0" * 64), config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in encoder.lora_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return encoder.train()


def tokens_of(process: int) -> Ragged:
    """Four texts, one of them empty; those of process 1 are longer, and one is in both."""
    lengths = np.array([4, 0, 7 + process, 5 + 2 * process])
    ids = np.arange(lengths.sum(), dtype=np.int32) % 40 + 4
    return Ragged(ids, lengths.astype(np.int64))


def gradients(step: nn.Module, process: int, cached: bool = False) -> dict[str, Tensor]:
    step.zero_grad()
    step(tokens_of(process), cached).backward()
    named = step.named_parameters()
    return {name.removeprefix("module."): p.grad.clone() for name, p in named if p.grad is not None}


def worker(process: int, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    store = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=store, rank=process, world_size=2)
    result = {}
    for checkpointing in (False, True):
        step = DistributedDataParallel(Step(build(folder, checkpointing), parts=1 + process))
        result[f"first {checkpointing}"] = gradients(step, process)
        result[f"cached {checkpointing}"] = gradients(step, process, cached=True)
        result[f"again {checkpointing}"] = gradients(step, process)
    torch.save(result, f"{folder}/{process}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ddp")
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(**shape, intermediate_size=64, vocab_size=64, initializer_range=0.2)
    BertModel(config).save_pretrained(path)
    mp.spawn(worker, args=(str(path),), nprocs=2)
    return str(path)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("when", ["first", "again"])
def test_the_adapter_gets_the_mean_gradient_on_both_processes(
    folder: str, when: str, checkpointing: bool
) -> None:
    ranks = [torch.load(f"{folder}/{process}.pt") for process in range(2)]
    found = [rank[f"{when} {checkpointing}"] for rank in ranks]
    alone = [gradients(Step(build(folder, False)), process) for process in range(2)]
    assert len(found[0]) == len(found[1]) == NUM_TENSORS
    for name, gradient in found[0].items():
        assert torch.equal(gradient, found[1][name])
        assert gradient.abs().max() > 0, name
        mean = (alone[0][name] + alone[1][name]) / 2
        torch.testing.assert_close(gradient, mean, rtol=1e-4, atol=1e-5)


def test_a_step_on_cached_features_gives_the_adapter_a_gradient_of_zero(folder: str) -> None:
    for process in range(2):
        found = torch.load(f"{folder}/{process}.pt")["cached False"]
        assert len(found) == NUM_TENSORS
        assert not any(gradient.any() for gradient in found.values())
