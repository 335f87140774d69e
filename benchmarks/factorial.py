"""What parts of the method do, from runs in which half of them are off.

    python benchmarks/factorial.py --profile best --parts mixtures boilerplate --texts dev.csv \
        -- data.source=census data.census_url=FOLDER

16 runs of a two-level fractional factorial design of resolution IV (Box and Hunter 1961), four on
each of four seeds: for each part, eight runs with it stand against eight without, and no effect
takes in that of another part or of two together with it. Switching one part off at a time needs
twice as many runs for the same standard error, and shows a part only beside all the others.

Each row: the mean difference with the part to without (positive: it helps), or without one that is
off by default to with it (negative: it would help), and its standard error from what seeds and
parts leave unexplained. An effect of more than two standard errors is marked.
"""

import argparse
import itertools
import json
import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict

import lightning.pytorch as pl
import numpy as np
from ablation import PARTS, cell, head, measured, text_columns

from naics_job.config.load import load_config
from naics_job.training.build import build_inputs

NUM_BLOCKS = 4  # seeds
# A run is a corner of a cube, four bits; a column of the design is the parity of some of them. Odd
# numbers of bits make main effects clear of pairs, even ones tell the seeds.
ODD = ((0,), (1,), (2,), (3,), (0, 1, 2), (1, 2, 3), (0, 1, 3), (0, 2, 3))
BLOCK = ((0, 2), (1, 3))


class Run(TypedDict):
    """One training: which parts were on, and what was measured."""

    seed: int
    on: dict[str, bool]
    columns: dict[str, float]


def design(parts: Sequence[str]) -> Iterator[tuple[int, dict[str, bool]]]:
    """Number of the seed, and which parts are on, of each of the 16 runs; seed by seed."""

    def parity(corner: tuple[int, ...], bits: tuple[int, ...]) -> int:
        return sum(corner[bit] for bit in bits) % 2

    corners = itertools.product((0, 1), repeat=4)
    runs = [
        (
            2 * parity(corner, BLOCK[0]) + parity(corner, BLOCK[1]),
            {part: bool(parity(corner, bits)) for part, bits in zip(parts, ODD, strict=False)},
        )
        for corner in corners
    ]
    yield from sorted(runs, key=lambda run: run[0])


def effects(runs: Sequence[Run], column: str) -> dict[str, tuple[float, float]]:
    """Effect and standard error of each part: least squares with a mean for each seed."""
    parts, seeds = list(runs[0]["on"]), sorted({run["seed"] for run in runs})
    signs = [[1.0 if run["on"][part] else 0.0 for part in parts] for run in runs]
    means = [[float(run["seed"] == seed) for seed in seeds] for run in runs]
    known = np.concatenate([np.array(signs), np.array(means)], axis=1)  # [run, part + seed]
    values = np.array([run["columns"][column] for run in runs])
    found, *_ = np.linalg.lstsq(known, values, rcond=None)
    left = values - known @ found
    variance = float(left @ left) / max(1, len(runs) - known.shape[1])
    error = np.sqrt(variance * np.diag(np.linalg.pinv(known.T @ known)))
    return {part: (float(found[row]), float(error[row])) for row, part in enumerate(parts)}


def table(runs: Sequence[Run]) -> list[str]:
    """Markdown: the mean of all runs, then the effect of each part."""
    shown = list(runs[0]["columns"])
    by_column = [effects(runs, name) for name in shown]
    lines = head(shown)
    means = [float(np.mean([run["columns"][name] for run in runs])) for name in shown]
    lines.append("| mean of all runs | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    for part in runs[0]["on"]:
        cells = [cell(*each[part]) for each in by_column]
        lines.append(f"| {part} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", help=f"rows of ablation.py, at most {len(ODD)}")
    parser.add_argument("--seeds", type=int, nargs=NUM_BLOCKS, default=[42, 300, 301, 302])
    parser.add_argument("--profile", default="best")
    parser.add_argument("--texts", nargs="+", default=[], help="files of labelled texts")
    parser.add_argument("--output", type=Path, help="a JSON file that grows run by run")
    parser.add_argument("--read", type=Path, nargs="+", help="print the table of such files")
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE settings, after --")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    pl.seed_everything(0, verbose=False)
    if arguments.read:
        files = [json.loads(path.read_text()) for path in arguments.read]
        print("\n".join(table([run for file in files for run in file])))
        return
    unknown = set(arguments.parts or ()) - set(PARTS)
    if unknown or not 1 <= len(arguments.parts or ()) <= len(ODD):
        parser.error(f"--parts takes 1 to {len(ODD)} of: {', '.join(PARTS)}")
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as folder:
        common = [f"dirs.data_dir={folder}", *arguments.overrides]
        inputs = build_inputs(load_config(None, arguments.profile, common).config)
        texts = text_columns(arguments.texts, inputs.data.taxonomy)
        for block, on in design(arguments.parts):
            began, seed = time.monotonic(), arguments.seeds[block]
            off = [setting for part in on if not on[part] for setting in PARTS[part]]
            found = measured(arguments.profile, [*common, f"seed={seed}", *off], texts)
            runs.append({"seed": seed, "on": on, "columns": found})
            print(f"seed {seed}, {on}: {time.monotonic() - began:.0f} s", flush=True)
            if arguments.output:
                arguments.output.write_text(json.dumps(runs, indent=1))
    print("\n".join(table(runs)))


if __name__ == "__main__":
    main()
