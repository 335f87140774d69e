"""What each part of the method does: every row trains with one part off, on the same seeds.

    python benchmarks/ablation.py --texts dev.csv -- data.source=census data.census_url=FOLDER

Columns: NDCG@10 and cophenetic correlation of all codes, NDCG@10 and parent@1 of families that were
held out of training, top-1 of index items that were, and top-1 and top-10 on labelled texts of
another kind (`--texts`, columns text and code). Each row but the first shows the difference of the
full method to the method without that part (positive: the part helps) and its standard error over
the seeds, which decide splits, start and order. An effect of more than two standard errors is
marked. Settings after `--` are those of `naics-embedder train --profile NAME`.
"""

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

import lightning.pytorch as pl
import torch

from naics_job.config.load import load_config
from naics_job.config.schema import Config
from naics_job.data.labelled import LabelledTexts, read_labelled
from naics_job.evaluation.text_scores import score_texts
from naics_job.geometry.lorentz import pairwise_distance
from naics_job.training.build import Inputs, Job, build_inputs, build_job
from naics_job.training.callbacks.curriculum import CurriculumCallback
from naics_job.training.final import Final, finish
from naics_job.training.scoring import asked_tokens, read_texts, search_scores
from naics_job.training.trainer import make_trainer

PARTS: dict[str, list[str]] = {
    "SADC (uniform negatives)": ["sampling.strategy=sans_static"],
    "phase 1": ["curriculum.phase1_end=0.001"],
    "phase 2 mining": [
        "curriculum.anneal.hard_share_start=0",
        "curriculum.anneal.hard_share_end=0",
    ],
    "router guidance": ["curriculum.router_mix_ratio=0"],
    "phase 3": ["curriculum.phase_mode=two_phase"],
    "contrastive": ["loss.contrastive_weight=0"],
    "hierarchy": ["loss.hierarchy_weight=0"],
    "rank order": ["loss.rank_order_weight=0"],
    "radius": ["loss.radius_reg_weight=0"],
    "load balance": ["loss.load_balancing_coef=0"],
    "margin": ["loss.base_margin=0"],
    "words": ["model.lexical_dim=0"],
    "experts (one of the same size)": ["model.moe.num_experts=1", "model.moe.top_k=1"],
    "mixtures": ["data_loader.queries.mixture=0"],
    "cross-references": ["data_loader.queries.cross_reference=0"],
    "channel dropout": ["model.channel_dropout=0"],
    "example dropout": ["model.example_dropout=0"],
    "LoRA": ["training.lora_learning_rate=1e-30"],
    "distillation": ["loss.distillation_weight=0"],
}
COLUMNS = (
    "all ndcg@10", "all coph.", "test ndcg@10", "test parent@1", "items top1", "texts top1",
    "texts top10",
)  # fmt: skip


def train(config: Config, inputs: Inputs) -> tuple[Job, Final]:
    """Fit without checkpoints and exports."""
    state = {name: value.clone() for name, value in inputs.encoder.state_dict().items()}
    job = build_job(config, inputs)
    trainer = make_trainer(config, logger=False, callbacks=[CurriculumCallback()])
    trainer.fit(job.module, datamodule=job.datamodule)
    final = finish(job)
    inputs.encoder.load_state_dict(state, strict=False)  # the next run starts from the same adapter
    return job, final


@torch.no_grad()
def columns(job: Job, final: Final, texts: LabelledTexts | None) -> dict[str, float]:
    """One number per column."""
    found = {
        "all ndcg@10": final.report.all["ndcg@10"],
        "all coph.": final.report.all["cophenetic"],
        "test ndcg@10": final.report.heldout["ndcg@10"],
        "test parent@1": final.report.heldout["parent@1"],
    }
    search, _ = search_scores(job, final.codes)
    if search:
        found["items top1"] = search["top@1"]
    if texts is not None:
        leaves = job.module.taxonomy.six_digit()
        points = job.module.embedder(read_texts(job, asked_tokens(job, texts.texts))).points
        curvature = job.module.embedder.curvature_value()
        scores = -pairwise_distance(points, final.codes.points[torch.from_numpy(leaves)], curvature)
        result = score_texts(scores, leaves, texts.positions, job.module.taxonomy)
        found |= {"texts top1": result["top1"], "texts top10": result["top10"]}
    return found


def table(rows: dict[str, list[dict[str, float]]]) -> list[str]:
    """Markdown: the full method, then the effect of each part."""
    full = rows["full"]
    shown = [name for name in COLUMNS if name in full[0]]
    lines = ["| part | " + " | ".join(shown) + " |", "|---" * (len(shown) + 1) + "|"]
    cells = [f"{mean(run[name] for run in full):.3f}" for name in shown]
    lines.append("| full method | " + " | ".join(cells) + " |")
    for part, runs in rows.items():
        if part == "full":
            continue
        cells = []
        for name in shown:
            gains = [a[name] - b[name] for a, b in zip(full, runs, strict=True)]
            error = stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
            mark = " *" if abs(mean(gains)) > 2 * error else ""
            cells.append(f"{mean(gains):+.3f} ± {error:.3f}{mark}")
        lines.append(f"| {part} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 300, 301, 302])
    parser.add_argument("--profile", default="quickstart")
    parser.add_argument("--texts", help="labelled texts of another kind")
    parser.add_argument("--parts", nargs="*", help="only these rows")
    parser.add_argument("--output", type=Path, help="a JSON file that grows row by row")
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE settings, after --")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    pl.seed_everything(0, verbose=False)
    rows: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        common = [f"dirs.data_dir={folder}", *arguments.overrides]
        for part in ["full", *(arguments.parts or PARTS)]:
            rows[part] = []
            for seed in arguments.seeds:
                began = time.monotonic()
                rows[part].append(one(arguments, [*common, f"seed={seed}"], part))
                print(f"{part}, seed {seed}: {time.monotonic() - began:.0f} s", flush=True)
            if arguments.output:
                arguments.output.write_text(json.dumps(rows, indent=1))
    print("\n".join(table(rows)))


def one(arguments: argparse.Namespace, overrides: Sequence[str], part: str) -> dict[str, float]:
    config = load_config(None, arguments.profile, [*overrides, *PARTS.get(part, [])]).config
    inputs = build_inputs(config)
    texts = (
        read_labelled(arguments.texts, inputs.data.taxonomy, "--texts") if arguments.texts else None
    )
    return columns(*train(config, inputs), texts)


if __name__ == "__main__":
    main()
