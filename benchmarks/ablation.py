"""What each part of the method does: every row trains with one part off, on the same seeds.

    python benchmarks/ablation.py --texts dev.csv -- data.source=census data.census_url=FOLDER

Columns: NDCG@10 and cophenetic correlation of all codes, NDCG@10 and parent@1 of families that were
held out of training, top-1 of their index items, and top-1 and top-10 of the point and of `search`
on labelled texts (`--texts`, files with columns text and code). Each row but the first shows the
difference of the full method to the method without that part (positive: the part helps), or with
one that is off by default (negative: it would help), and its standard error over the seeds, which
decide splits, start and order. An effect of more than two standard errors is marked. Settings after
`--` are those of `naics-embedder train --profile NAME`.
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
from naics_job.data.labelled import LabelledTexts, read_labelled
from naics_job.evaluation.text_scores import Block, score_texts
from naics_job.geometry.lorentz import pairwise_distance
from naics_job.taxonomy.tree import Taxonomy
from naics_job.training.build import Job, build_inputs
from naics_job.training.evaluate_texts import ranker_of
from naics_job.training.final import Final
from naics_job.training.repeats import trained
from naics_job.training.scoring import asked_tokens, read_texts, search_scores

Rows = dict[str, list[dict[str, float]]]  # part -> one dictionary of columns for each seed
PARTS: dict[str, list[str]] = {
    "SADC (uniform negatives)": ["sampling.strategy=sans_static"],
    "phase 1": ["curriculum.phase1_end=0.001"],
    "phase 2 mining": [
        "curriculum.anneal.hard_share_start=0",
        "curriculum.anneal.hard_share_end=0",
    ],
    "router guidance": ["curriculum.router_mix_ratio=0"],
    "contrastive": ["loss.contrastive_weight=0"],
    "hierarchy": ["loss.hierarchy_weight=0"],
    "rank order": ["loss.rank_order_weight=0"],
    "radius": ["loss.radius_reg_weight=0"],
    "words": ["model.lexical_dim=0"],
    "experts (one of the same size)": ["model.moe.num_experts=1", "model.moe.top_k=1"],
    "boilerplate": ["data_loader.queries.boilerplate=0"],
    "mixtures": ["data_loader.queries.mixture=0"],
    "cross-references": ["data_loader.queries.cross_reference=0"],
    "offsets of codes": ["model.offset_dropout=1"],
    "feature dropout": ["model.feature_dropout=0"],
    "channel dropout": ["model.channel_dropout=0"],
    "LoRA": ["model.lora.start_phase=null"],
    "distillation": ["loss.distillation_weight=0"],
    "with clusters in phase 3": ["curriculum.fn_curriculum_start_epoch=0"],
    "with load balance loss": ["loss.load_balancing_coef=0.01"],
    "with margin": ["loss.base_margin=0.002"],
    "with example dropout": ["model.example_dropout=0.2"],
    "with interpolation": ["model.lora.interpolation=[0.25, 0.5, 0.75, 1.0]"],
}


class TextColumns:
    """How well the point and `search` find the codes of some labelled texts."""

    def __init__(self, texts: LabelledTexts, name: str) -> None:
        self.texts, self.name = texts, name

    def __call__(self, job: Job, final: Final) -> dict[str, float]:
        module, truth = job.module, self.texts.positions
        leaves = module.taxonomy.six_digit()
        read = read_texts(job, asked_tokens(job, self.texts.texts))
        points = module.embedder(read).points
        codes = final.codes.points[torch.from_numpy(leaves)]
        ranked = ranker_of(job, final).rank(points.cpu().numpy(), read.long.cpu().numpy())
        systems: dict[str, Block] = {
            "point": -pairwise_distance(points, codes, module.embedder.curvature_value()),
            "search": ranked.score,
        }
        found = {}
        for system, scores in systems.items():
            result = score_texts(scores, leaves, truth, module.taxonomy)
            for depth in ("top1", "top10"):
                found[f"{self.name} {system} {depth}"] = result[depth]
        return found


@torch.no_grad()
def columns(job: Job, final: Final, texts: Sequence[TextColumns]) -> dict[str, float]:
    """One number per column."""
    job.module.eval()
    found = {
        "all ndcg@10": final.report.all["ndcg@10"],
        "all coph.": final.report.all["cophenetic"],
        "test ndcg@10": final.report.heldout["ndcg@10"],
        "test parent@1": final.report.heldout["parent@1"],
    }
    search, _ = search_scores(job, final.codes)
    if search:
        found["items top1"] = search["top@1"]
    for each in texts:
        found |= each(job, final)
    return found


def text_columns(urls: Sequence[str], taxonomy: Taxonomy) -> list[TextColumns]:
    """Of files with columns text and code, each named after its file."""
    return [TextColumns(read_labelled(url, taxonomy, "--texts"), Path(url).stem) for url in urls]


def measured(
    profile: str, settings: Sequence[str], texts: Sequence[TextColumns]
) -> dict[str, float]:
    """The columns of one training."""
    config = load_config(None, profile, settings).config
    with trained(config, build_inputs(config)) as (job, final):
        return columns(job, final, texts)


def head(shown: Sequence[str]) -> list[str]:
    """The first lines of a table in Markdown."""
    return ["| part | " + " | ".join(shown) + " |", "|---" * (len(shown) + 1) + "|"]


def cell(effect: float, error: float) -> str:
    """An effect with its standard error, marked where it is more than two of them."""
    mark = " *" if abs(effect) > 2 * error else ""
    return f"{effect:+.3f} ± {error:.3f}{mark}"


def table(rows: Rows) -> list[str]:
    """Markdown: the full method, then the effect of each part."""
    full = rows["full"]
    shown = list(full[0])
    lines = head(shown)
    cells = [f"{mean(run[name] for run in full):.3f}" for name in shown]
    lines.append("| full method | " + " | ".join(cells) + " |")
    for part, runs in rows.items():
        if part == "full":
            continue
        cells = []
        for name in shown:
            gains = [a[name] - b[name] for a, b in zip(full, runs, strict=True)]
            error = stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
            cells.append(cell(mean(gains), error))
        lines.append(f"| {part} | " + " | ".join(cells) + " |")
    return lines


def _together(paths: Sequence[Path]) -> Rows:
    """Rows of several files, of those parts that all of them have in full."""
    files: list[Rows] = [json.loads(path.read_text()) for path in paths]
    full = [len(rows["full"]) for rows in files]
    return {
        part: [run for rows in files for run in rows[part]]
        for part in files[0]
        if [len(rows.get(part, ())) for rows in files] == full
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 300, 301, 302])
    parser.add_argument("--profile", default="quickstart")
    parser.add_argument("--texts", nargs="+", default=[], help="files of labelled texts")
    parser.add_argument("--parts", nargs="*", help="only these rows")
    parser.add_argument("--output", type=Path, help="a JSON file that grows row by row")
    parser.add_argument(
        "--read", type=Path, nargs="+", help="print the table of such files, their seeds together"
    )
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE settings, after --")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    pl.seed_everything(0, verbose=False)
    if arguments.read:
        print("\n".join(table(_together(arguments.read))))
        return
    rows: Rows = {}
    with tempfile.TemporaryDirectory() as folder:
        common = [f"dirs.data_dir={folder}", *arguments.overrides]
        inputs = build_inputs(load_config(None, arguments.profile, common).config)
        texts = text_columns(arguments.texts, inputs.data.taxonomy)
        for part in ["full", *(arguments.parts or PARTS)]:
            rows[part] = []
            for seed in arguments.seeds:
                began = time.monotonic()
                off = [*common, f"seed={seed}", *PARTS.get(part, [])]
                rows[part].append(measured(arguments.profile, off, texts))
                print(f"{part}, seed {seed}: {time.monotonic() - began:.0f} s", flush=True)
            if arguments.output:
                arguments.output.write_text(json.dumps(rows, indent=1))
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
