"""Draw 1,000 batches of phase-1 negatives from a synthetic taxonomy of 1,000,000 codes.

Run: python benchmarks/large_taxonomy.py [--codes N] [--batches N]
Prints one line of JSON: seconds to build the tree and the sampler, seconds and milliseconds per
batch to draw anchors and negatives, peak resident memory of the process in bytes.
"""

import argparse
import json
import resource
import sys
import time

import numpy as np

from naics_job.data.negatives import TreeNegativeSampler
from naics_job.data.sampler import EpochOrder, RowDraws
from naics_job.taxonomy.tree import IntArray, Taxonomy

DEPTH = 5
SECTORS = 20
GROWTH = 12  # children per code, about; NAICS has 5, 3, 2 and 1.5 from level to level


def synthetic_taxonomy(num_codes: int, seed: int) -> Taxonomy:
    """A random tree of `num_codes` codes over 20 sectors, five levels deep, widening downwards."""
    rng = np.random.default_rng(seed)
    share = np.array([float(GROWTH) ** level for level in range(1, DEPTH)])
    sizes = np.maximum(1, (share / share.sum() * (num_codes - SECTORS)).astype(np.int64))
    sizes[-1] += num_codes - SECTORS - sizes.sum()
    parents, first, size = [np.full(SECTORS, -1)], 0, SECTORS
    for count in sizes:
        parents.append(np.sort(rng.integers(first, first + size, size=count)))
        first, size = first + size, int(count)
    names = [f"{row:07d}" for row in range(num_codes)]
    return Taxonomy.from_parents(names, names, np.concatenate(parents))


def synthetic_exclusions(num_codes: int, seed: int) -> tuple[IntArray, IntArray]:
    """Two random exclusions per code, as offsets and positions."""
    rng = np.random.default_rng(seed)
    return np.arange(num_codes + 1) * 2, rng.integers(0, num_codes, size=2 * num_codes)


def main() -> None:
    """Build, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--codes", type=int, default=1_000_000)
    parser.add_argument("--batches", type=int, default=1_000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--negatives", type=int, default=24)
    options = parser.parse_args()

    begin = time.perf_counter()
    taxonomy = synthetic_taxonomy(options.codes, seed=0)
    built = time.perf_counter()
    allowed = np.ones(options.codes, dtype=bool)
    allowed[taxonomy.six_digit()[::20]] = False
    exclusions = synthetic_exclusions(options.codes, seed=1)
    sampler = TreeNegativeSampler(taxonomy, exclusions, allowed)
    anchors = sampler.usable_anchors(np.flatnonzero(allowed), options.negatives)
    order = EpochOrder(anchors, seed=42, global_batch_size=options.batch_size)
    ready = time.perf_counter()
    held_out = 0
    for index in range(options.batches):
        draws = RowDraws(42, index // order.num_batches, index, 0, options.batch_size)
        batch = order.batch(index // order.num_batches, index % order.num_batches)
        negatives = sampler.draw(batch, options.negatives, 1.5, 2, 0.1, draws)
        held_out += int((~allowed[negatives]).sum())
    done = time.perf_counter()

    if held_out:
        sys.exit(f"{held_out} held-out codes were drawn")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps(
            {
                "codes": options.codes,
                "batches": options.batches,
                "tree_s": round(built - begin, 2),
                "sampler_s": round(ready - built, 2),
                "draw_s": round(done - ready, 2),
                "ms_per_batch": round(1000 * (done - ready) / options.batches, 3),
                "peak_rss_bytes": peak if sys.platform == "darwin" else peak * 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
