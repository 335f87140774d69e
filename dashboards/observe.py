"""Watch one command: `python -m dashboards.observe FOLDER -- naics-embedder train ...`.

Starts a Prometheus, runs the command, and draws the dashboards into FOLDER when it has ended.
Prometheus listens on a free port, which is printed, and is gone afterwards.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from dashboards.picture import draw_all
from dashboards.prometheus import PrometheusError, serve

FIRST_PORT, PORTS = 9400, 8  # metrics.port and those of seven more local ranks
SCRAPE_S = 1.0
USAGE = "usage: python -m dashboards.observe FOLDER -- COMMAND [ARGUMENT ...]"


def observe(folder: Path, command: Sequence[str]) -> int:
    """Run a command under the eyes of a Prometheus; returns its exit code.

    Raises:
        PrometheusError: Prometheus is missing, or the command showed no metrics.
    """
    with tempfile.TemporaryDirectory() as data:
        ports = range(FIRST_PORT, FIRST_PORT + PORTS)
        with serve(Path(data), ports, SCRAPE_S) as api:
            print(f"Prometheus: {api.url}/graph\nMetrics:    http://127.0.0.1:{FIRST_PORT}/metrics")
            code = subprocess.run(command, check=False).returncode
            time.sleep(2 * SCRAPE_S)
            for file in draw_all(api, folder, SCRAPE_S):
                print(file)
    return code


def main() -> int:
    """Parse the command line."""
    words = sys.argv[1:]
    if len(words) < 3 or words[1] != "--":
        print(USAGE, file=sys.stderr)
        return 2
    try:
        return observe(Path(words[0]), words[2:])
    except PrometheusError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
