"""Cost of our LoRA encoding step against the bare encoder's forward + backward, same tokens.

Run: python benchmarks/encoder_step.py [--codes N] [--rounds N] [--threads N]
Both sides encode the distinct texts of the same random codes of the bundled table, float32. The
rounds alternate between the sides, so that a busy machine hurts them alike; the fastest round of
each counts. CPU seconds of the process are reported beside the ratios of wall time.

bare_frozen     transformers' BertModel, weights frozen, gradients through every layer: the least
                that any training of adapters must do; `ratio_frozen` is the strict figure.
bare_trained    the same model with all weights trained.
ours_in_pieces  in four micro-batches, each of which is encoded twice.

Prints one line of JSON.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from naics_job.config.load import load_config
from naics_job.config.schema import Config
from naics_job.data.prepare import load_dataset, prepare_all
from naics_job.data.segments import ranges
from naics_job.data.tokens import Ragged, TokenStore
from naics_job.model.encoder import TextEncoder
from naics_job.model.grouping import concatenated, distinct_texts, length_blocks, padded_ids
from naics_job.model.noise import StepNoise
from naics_job.model.transformer import load_transformer
from naics_job.model.weights import WHEEL, BaseWeights, resolve_base
from naics_job.taxonomy.tree import IntArray

PIECES = 4
NOISE = StepNoise.of(0)
Blocks = list[tuple[torch.Tensor, torch.Tensor | None]]


def settings(folder: Path) -> Config:
    """The defaults on bundled data, everything below `folder`."""
    overrides = [
        "data.source=bundled",
        f"dirs.data_dir={folder}",
        f"model.base_model_name=wheel://{WHEEL}",
    ]
    return load_config(None, None, overrides).config


def texts_of(store: TokenStore, codes: IntArray) -> Ragged:
    """Every text of some codes: title, description, index items, exclusions."""
    parts = [_rows(store.texts(channel), codes) for channel in ("title", "description")]
    for channel in ("examples", "excluded"):
        start = store.segments[channel].segment_start
        numbers = ranges(start[codes], start[codes + 1] - start[codes])
        parts.append(_rows(store.single_texts(channel), numbers))
    return concatenated(parts)


def _rows(texts: Ragged, rows: IntArray) -> Ragged:
    start = np.cumsum(texts.lengths) - texts.lengths
    lengths = texts.lengths[rows]
    return Ragged(texts.ids[ranges(start[rows], lengths)], lengths)


def bare_blocks(tokens: Ragged) -> tuple[Blocks, int, int]:
    """The padded blocks that our encoder forms, and the counts of real and padded tokens."""
    blocks: Blocks = []
    real = padded = 0
    rows = distinct_texts(tokens).rows
    for block in length_blocks(tokens.lengths[rows]):
        ids, mask = padded_ids(tokens, rows[block], 0)
        real, padded = real + int(mask.sum()), padded + mask.size
        attention = None if mask.all() else torch.from_numpy(mask).long()
        blocks.append((torch.from_numpy(ids), attention))
    return blocks, real, padded


def bare_step(model: nn.Module, blocks: Blocks, train_weights: bool) -> None:
    """Forward and backward of the bare encoder on ready-made blocks."""
    model.requires_grad_(train_weights)
    model.zero_grad()
    pooled = []
    for ids, mask in blocks:
        if train_weights:
            output = model(input_ids=ids, attention_mask=mask)
        else:  # something must need a gradient, or there is no backward
            inputs = model.embeddings.word_embeddings(ids).requires_grad_()
            output = model(inputs_embeds=inputs, attention_mask=mask)
        pooled.append(output.last_hidden_state.mean(1))
    torch.cat(pooled).square().sum().backward()


def our_step(encoder: TextEncoder, tokens: Ragged, parts: int = 1) -> None:
    """Forward and backward of the adapter, from token lists to gradients."""
    encoder.zero_grad()
    encoder(tokens, NOISE, parts=parts).square().sum().backward()


def fastest(sides: dict[str, Callable[[], None]], rounds: int) -> dict[str, tuple[float, float]]:
    """Least wall and CPU seconds of each side over alternating rounds, after one warm-up."""
    best = {name: (float("inf"), float("inf")) for name in sides}
    for number in range(rounds + 1):
        for name, run in sides.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if number:
                best[name] = min(best[name][0], wall), min(best[name][1], cpu)
    return best


@torch.no_grad()
def frozen_step(encoder: TextEncoder, tokens: Ragged) -> None:
    """One pass of the frozen feature cache."""
    with encoder.without_adapters():
        encoder(tokens)


def build_sides(
    config: Config, weights: BaseWeights, tokens: Ragged, blocks: Blocks
) -> dict[str, Callable[[], None]]:
    """What is timed, by name."""
    ours = TextEncoder(weights, config.model).train()
    checkpointed = replace(config.model, gradient_checkpointing=True)
    less_memory = TextEncoder(weights, checkpointed).train()
    exact = TextEncoder(weights, config.model).eval()
    short = TextEncoder(weights, config.model, bf16=True).eval()
    bare = load_transformer(weights.folder).train()
    return {
        "ours": lambda: our_step(ours, tokens),
        "bare_frozen": lambda: bare_step(bare, blocks, train_weights=False),
        "bare_trained": lambda: bare_step(bare, blocks, train_weights=True),
        "ours_checkpointed": lambda: our_step(less_memory, tokens),
        "ours_in_pieces": lambda: our_step(ours, tokens, PIECES),
        "features_float32": lambda: frozen_step(exact, tokens),
        "features_bfloat16": lambda: frozen_step(short, tokens),
    }


def main() -> None:
    """Build, time, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--codes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        config = settings(Path(scratch))
        prepare_all(config)
        data = load_dataset(config)
        weights = resolve_base(config.model, Path(scratch))
        store = TokenStore.open_or_build(data, weights.folder, config.data_loader)
    codes = np.random.default_rng(0).choice(len(data.taxonomy), options.codes, replace=False)
    tokens = texts_of(store, np.sort(codes))
    blocks, real, padded = bare_blocks(tokens)
    best = fastest(build_sides(config, weights, tokens, blocks), options.rounds)
    result = {
        "threads": options.threads,
        "codes": options.codes,
        "tokens": real,
        "blocks": len(blocks),
        "padding_share": round(1 - real / padded, 4),
        "ratio_frozen": round(best["ours"][0] / best["bare_frozen"][0], 3),
        "ratio_frozen_cpu": round(best["ours"][1] / best["bare_frozen"][1], 3),
        "ratio_trained": round(best["ours"][0] / best["bare_trained"][0], 3),
        "ratio_trained_cpu": round(best["ours"][1] / best["bare_trained"][1], 3),
        "tokens_per_s": {name: round(real / wall) for name, (wall, _) in best.items()},
        "tokens_per_cpu_s": {name: round(real / cpu) for name, (_, cpu) in best.items()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
