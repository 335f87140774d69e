"""Quality over several held-out splits: mean and worst of each metric beside the frozen encoder.

    python benchmarks/quality.py --seeds 42 300 301 302 -- data.source=census data.census_url=FOLDER

One held-out split has about 50 codes, so one code is 0.02 of parent@1: a single split says little.
Settings after `--` are those of `naics-embedder train --profile quickstart`.
"""

import argparse
from collections.abc import Sequence
from statistics import mean

from naics_job.config.load import load_config
from naics_job.evaluation.metrics import LOWER_IS_BETTER
from naics_job.training.record import RunRecord
from naics_job.training.run import RunOptions, run_training

COLUMNS = ("all", "heldout")


def train(seed: int, overrides: Sequence[str]) -> RunRecord:
    name = f"experiment_name=quality-{seed}"
    loaded = load_config(None, "quickstart", [*overrides, f"seed={seed}", name])
    return run_training(loaded, RunOptions())


def table(records: Sequence[RunRecord]) -> list[str]:
    lines = [f"{'metric':<22}{'mean':>8}{'worst':>8}{'frozen':>8}"]
    for column in COLUMNS:
        for metric in records[0].metrics[column]:
            ours = [record.metrics[column][metric] for record in records]
            frozen = [record.baseline[column][metric] for record in records]
            worst = max(ours) if metric in LOWER_IS_BETTER else min(ours)
            name = f"{column} {metric}"
            lines.append(f"{name:<22}{mean(ours):>8.3f}{worst:>8.3f}{mean(frozen):>8.3f}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 300, 301])
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE settings, after --")
    arguments = parser.parse_args()
    records = [train(seed, arguments.overrides) for seed in arguments.seeds]
    print(f"{len(records)} splits: seeds {arguments.seeds}")
    print("\n".join(table(records)))


if __name__ == "__main__":
    main()
