"""Break runs on purpose and count what is lost: the long forms of tests/integration/chaos.

    python benchmarks/chaos/run.py sigkill --count 200
    python benchmarks/chaos/run.py all

Prints a table per campaign, writes <campaign>.json below --out, and ends with 1 when a goal is
missed. The campaigns are in tests/support/campaigns, one per file.
"""

import argparse
import logging
import os
import signal
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: runs are small
os.environ.setdefault("TQDM_DISABLE", "1")
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))
sys.path.append(str(ROOT))  # where the package is not installed

from campaigns.catalogue import CAMPAIGNS, Options, perform  # noqa: E402
from campaigns.counts import Counts  # noqa: E402


def main() -> int:
    """Run the campaigns that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("campaigns", nargs="+", choices=[*CAMPAIGNS, "all"], metavar="CAMPAIGN",
                        help=f"all, or some of {', '.join(CAMPAIGNS)}")  # fmt: skip
    parser.add_argument("--count", type=int, help="kills, trials, events or saves, as it has them")
    parser.add_argument("--seed", type=int, default=0, help="of what is random")
    parser.add_argument("--real", action="store_true", help="an interpreter per run, not a fork")
    parser.add_argument("--pods", type=int, nargs="*", help="launchers per trial of sigterm; "
                        "1 takes `train` without a launcher")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("outputs/chaos"))
    parser.add_argument("--keep", type=Path, help="keep what the runs write in this folder")
    given = parser.parse_args()
    logging.getLogger("naics_job").setLevel(logging.CRITICAL)  # the reader's; runs have their logs
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended
    names = list(CAMPAIGNS) if "all" in given.campaigns else given.campaigns
    missed = []
    for name in names:
        options = Options(given.count, given.seed, given.real, tuple(given.pods or ()), given.keep)
        try:
            counts = perform(name, options)
        except (KeyboardInterrupt, SystemExit):
            if Counts.newest is not None:
                print("broken off; so far:")
                Counts.newest.show()
            raise
        except AssertionError as error:  # the campaign itself could not go on
            print(f"campaign {name} broke off: {error}", flush=True)
            missed.append(name)
            continue
        counts.show()
        print(f"  written to {counts.write(given.out)}", flush=True)
        missed += [name] * bool(counts.missed())
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
